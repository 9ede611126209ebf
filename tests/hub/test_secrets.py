from __future__ import annotations

from pathlib import Path

import pytest

from miloco_edge.errors import ConfigError, RefusedError
from miloco_edge.hub import connect
from miloco_edge.hub.secrets import remote_key
from miloco_edge.hub.settings import Home

URL = "http://big.local:8001/v1"


def test_a_remote_engine_has_the_key_that_is_nearest_to_it(tmp_path: Path) -> None:
    found: dict[str, str] = {"MILOCO_EDGE_SECRETS": str(tmp_path)}
    assert remote_key(URL, found) is None
    found["MILOCO_EDGE_REMOTE_KEY"] = "all"
    assert remote_key(URL, found) == remote_key("https://other.local/v1", found) == "all"
    (tmp_path / "remote.big.local.key").write_text("host\n")
    assert remote_key(URL, found) == remote_key("http://big.local/v1", found) == "host"
    found["MILOCO_EDGE_REMOTE_BIG_LOCAL_8001_KEY"] = "port"
    assert remote_key(URL, found) == "port"
    assert remote_key("http://big.local:8002/v1", found) == "host"
    assert remote_key("http://10.0.0.7:8001/v1", found) == "all", "no host gets another's"


@pytest.mark.parametrize("url", ["http://big:99999/v1", "http://", "http://[::1", "http://a:b@:1"])
def test_an_address_that_can_be_none_is_refused(url: str) -> None:
    with pytest.raises(RefusedError, match=r"expected http\(s\)://HOST") as refused:
        remote_key(url, {})
    assert "a:b" not in str(refused.value)


def test_each_engine_of_a_home_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, str | None]] = []

    class Remote:
        def __init__(self, url: str, *, api_key: str | None) -> None:
            given.append((url, api_key))

    monkeypatch.setattr(connect, "RemoteEngine", Remote)
    monkeypatch.setattr(connect, "Failover", list)
    monkeypatch.setenv("MILOCO_EDGE_REMOTE_BIG_LOCAL_KEY", "one")
    other = "http://other.local/v1"
    connect.engine_for(Home(tmp_path / "home.toml", models=(URL, other)))
    assert given == [(URL, "one"), (other, None)]
    (tmp_path / "remote.other.local.key").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("MILOCO_EDGE_SECRETS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"the key of http://other\.local/v1"):
        connect.engine_for(Home(tmp_path / "home.toml", models=(other,)))
