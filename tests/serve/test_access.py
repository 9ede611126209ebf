from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from miloco_edge.cli.main import cli
from miloco_edge.errors import ConfigError
from miloco_edge.serve.access import Access, Key, read_keys
from miloco_edge.serve.fetch import Fetcher
from miloco_edge.serve.media import Medium, Remote
from miloco_edge.serve.refusal import Refusal
from tests.serve.fake import Fake, served, user

LOOK = Key.of("grafana", "only-to-look", ["read"])
ASK = Key.of("hub", "only-to-ask-", ["ask"])
CHAT = {"messages": [user("Who?")]}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_key_opens_its_scopes_and_no_others() -> None:
    with served(Fake(), access=Access((LOOK, ASK))) as client:
        route = "/v1/chat/completions"
        assert client.post(route, json=CHAT).status_code == 401
        assert client.post(route, json=CHAT, headers=bearer("wrong")).status_code == 401
        assert client.post(route, json=CHAT, headers=bearer("only-to-look")).status_code == 403
        assert client.post(route, json=CHAT, headers=bearer("only-to-ask-")).status_code == 200
        assert client.get("/metrics", headers=bearer("only-to-look")).status_code == 200
        assert client.get("/v1/models", headers=bearer("only-to-ask-")).status_code == 403
        admin = client.post("/models/unload", headers=bearer("only-to-ask-"))
        assert admin.status_code == 403 and admin.json()["code"]
        assert client.get("/health").status_code == 200


def test_a_key_may_hold_any_letters() -> None:
    with served(Fake(), access=Access((Key.of("hub", "schlüssel-鑰匙"),))) as client:
        sent = {"Authorization": "Bearer schlüssel-鑰匙".encode()}
        assert client.get("/v1/models", headers=sent).status_code == 200  # type: ignore[arg-type]


def test_every_route_but_health_wants_a_key() -> None:
    app_routes = []
    with served(Fake(), access=Access((LOOK,))) as client:
        app: Any = client.app
        for route in app.routes:
            if "health" in route.path:
                continue
            app_routes.append(route.path)
            for method in route.methods - {"HEAD"}:
                path = route.path.replace("{name:path}", "x").replace("{id}", "0" * 16)
                assert client.request(method, path).status_code == 401, path
    assert len(app_routes) > 15


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8001"}, 200),
        ({"Host": "[::1]:8001"}, 200),
        ({"Host": "LocalHost:8001"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:8001"}, 403),
        ({"Origin": "http://127.0.0.1:8001"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_without_a_key_no_other_site_gets_in(headers: dict[str, str], status: int) -> None:
    with served(Fake()) as client:
        assert client.get("/v1/models", headers=headers).status_code == status
        reply = client.options(
            "/v1/models",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
        )
        assert not any(name.startswith("access-control") for name in reply.headers)


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    digest = LOOK.digest.hex()
    path.write_text(
        f'[key.a]\nsecret = "long-enough"\n[key.b]\nsha256 = "{digest}"\nscopes = ["read"]'
    )
    first, second = read_keys(path)
    assert first.scopes == {"read", "ask", "watch", "admin"} and second.scopes == {"read"}
    assert Access((first, second)).key({"authorization": "bearer only-to-look"}) is second
    for bad in (
        "",
        "[key.a]",
        "[key.a]\nsecret = 'short'",
        "[key.a]\nsha256 = 'zz'",
        "x =",
        "key = 1",
    ):
        path.write_text(bad)
        with pytest.raises(ConfigError):
            read_keys(path)
    path.write_text("[key.a]\nsecret = 'long-enough'\nscopes = ['everything']")
    with pytest.raises(ConfigError, match="scopes"):
        read_keys(path)


def test_no_secret_is_held() -> None:
    assert "only-to-look" not in repr(Access((LOOK,)))


def test_the_command_listens_to_all_only_with_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2"):
        result = CliRunner().invoke(cli, ["serve", "--host", host])
        assert result.exit_code == 2 and "--api-key" in result.output


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.2:8001", 200), ("[::1]", 200), ("LocalHost", 200), ("127.evil.example", 403)],
)
def test_a_server_without_keys_goes_by_this_machines_own_names(host: str, status: int) -> None:
    with served(Fake()) as client:
        assert client.get("/v1/models", headers={"host": host}).status_code == status


def test_a_method_that_a_route_has_not_is_named_as_such() -> None:
    with served(Fake()) as client:
        reply = client.delete("/v1/models")
        assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method")


class Resolver:
    """Tells another address each time, as one who rebinds a name does."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.calls = list(addresses), 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.calls += 1
        return [self.addresses.pop(0)]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "::ffff:127.0.0.1"]
)
def test_a_listed_name_does_not_lead_to_this_machine(address: str) -> None:
    resolver = Resolver(address, "93.184.216.34")
    fetcher = Fetcher(["http://cam.example"], resolve=resolver, seconds=1)
    with pytest.raises(Refusal, match="could not be reached"):
        asyncio.run(fetcher.fetch(Remote("picture", "http://cam.example/a.jpg")))
    assert resolver.calls == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.jpg",
        "https://cam.example/a.jpg",
        "http://cam.example:81/a.jpg",
        "http://user:pass@cam.example/a.jpg",
        "http://cam.example@evil.example/a.jpg",
        "http://[::1]/a.jpg",
        "http://",
    ],
)
def test_only_listed_origins_are_fetched(url: str) -> None:
    resolver = Resolver()
    fetcher = Fetcher(["http://cam.example"], resolve=resolver)
    with pytest.raises(Refusal, match="by value"):
        asyncio.run(fetcher.fetch(Remote("picture", url)))
    assert resolver.calls == 0


class Host(BaseHTTPRequestHandler):
    """Sends what its path says."""

    def do_GET(self) -> None:
        kind = {"/page": "text/html"}.get(self.path, "image/jpeg")
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/a.jpg")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        if self.path == "/slow":
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
        else:
            with suppress(OSError):
                self.wfile.write(b"x" * (4000 if self.path == "/big" else 10))

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def fetched(host: str, path: str) -> Medium:
    fetcher = Fetcher([host], most_bytes=1000, seconds=1)
    return asyncio.run(fetcher.fetch(Remote("picture", host + path)))


def test_a_listed_address_is_fetched(host: str) -> None:
    assert fetched(host, "/a.jpg").data == (base64.b64encode(b"x" * 10).decode(),)


@pytest.mark.parametrize(
    ("path", "why"),
    [("/away", "status 200"), ("/page", "type"), ("/big", "too much"), ("/slow", "too slow")],
)
def test_hosts_are_held_to_bounds(host: str, path: str, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(Refusal, match=why):
        fetched(host, path)
    assert time.monotonic() - began < 4
