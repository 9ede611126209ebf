"""The figures of hostile visitors, taken from a small number of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import hostile
from miloco_edge.serve.settings import Limits
from tests.serve.test_leaving import Running


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_few_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "_SETTLE_S", 0.2)
    monkeypatch.setattr("tests.serve.test_leaving.LIMITS", Limits(header_s=1))
    with Running() as running:
        assert running.engine.hold is not None
        running.engine.hold.set()
        counts = {"media": 1, "bodies": 1, "dripping": 3, "streams": 3, "silent": 20}
        found = hostile.measure(running.port, os.getpid(), counts)
    parts = found["parts"]
    assert list(parts) == list(hostile.PARTS)
    for name, part in parts.items():
        assert not {said for said in part["answers"] if said == "hangs" or said[0] == "5"}, name
        assert part["question"] == "200" and part["unexpected"] == 0, name
    assert parts["streams"]["answers"] == {"200": 3} and parts["silent"]["answers"] == {
        "closed": 20
    }
    assert sum(parts["bodies"]["answers"].values()) == len(hostile.BODIES) * len(hostile.ROUTES)
    assert parts["dripping"]["slowest_s"] < 20
    server, before = parts["silent"]["after"]["server"], found["before"]["server"]
    assert server["descriptors"] <= before["descriptors"] + 4
    assert found["before"]["others"]["processes"] >= 1, "the decoder's"


def test_what_others_hold_is_counted() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = hostile.processes(os.getpid())
        child.kill()
    assert found["others"]["processes"] >= 1 and found["others"]["resident_bytes"] > 0
    assert found["server"]["threads"] >= 1 and found["server"]["descriptors"] > 2
