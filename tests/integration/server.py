"""The command, serving a model at a free port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

KEY = "a-key-for-tests"


@contextmanager
def serving(model: Path | str, *options: str, key: str | None = KEY) -> Iterator[str]:
    """The address of a server that has loaded its model; ended with SIGTERM."""
    command = [
        sys.executable, "-m", "miloco_edge", "serve", "--model", str(model), "--port", "0",
        "--context", "4096", "--threads", "1", "--json", *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if key is not None:
        environment["MILOCO_EDGE_SERVE_API_KEY"] = key
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address: str = json.loads(process.stdout.readline())["listening"]
            threading.Thread(target=process.stdout.read, daemon=True).start()
            wait_for_health(address)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def wait_for_health(address: str, seconds: float = 180) -> None:
    """Until the model is loaded; what comes before is 503."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=10) as reply:
                assert reply.status == 200
                return
        except urllib.error.HTTPError as error:
            assert error.code == 503
            error.close()
        assert time.monotonic() < end, "it did not load"
        time.sleep(0.5)


def metric(address: str, name: str, key: str = KEY) -> float:
    """One figure of /metrics."""
    request = urllib.request.Request(
        f"{address}/metrics", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        lines: Sequence[str] = reply.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))
