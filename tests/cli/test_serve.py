"""`serve` as a process: how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_who_stops_it_while_the_model_loads_gets_no_error(
    told: signal.Signals, code: int, pair: Path
) -> None:
    command = [sys.executable, "-m", "miloco_edge", "serve", "--model", str(pair), "--port", "0"]
    with subprocess.Popen(
        [*command, "--context", "1024", "--threads", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["listening"]
        server.send_signal(told)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (code, "")
    assert err.startswith(f"listening at {address}") and len(err.splitlines()) == 1
