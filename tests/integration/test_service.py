"""`serve` and `watch` as systemd starts them: Type=notify, with a watchdog."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "models" / "demo" / "ball.mp4"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(300)
        yield manager


@pytest.mark.parametrize("command", ["serve", "watch"])
def test_a_service_is_ready_alive_and_stopping(
    command: str, pair: Path, tmp_path: Path, manager: socket.socket
) -> None:
    home = tmp_path / "home.toml"
    home.write_text(
        f'model = "{pair}"\n[engine]\nthreads = 1\ncontext = 2048\nvisual_tokens = 64\n'
        f'[camera.hall]\nsource = "{CLIP}"\nloop = true\n[rule.red]\ntext = "A ball is red"\n'
    )
    port = ["--port", "0"] if command == "serve" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "miloco_edge", command, "--config", str(home), *port],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": manager.getsockname(),
            "WATCHDOG_USEC": "400000",
        },
        stdout=subprocess.DEVNULL,
    )
    with process:
        assert manager.recv(100) == b"READY=1"
        for _ in range(3):
            assert manager.recv(100) == b"WATCHDOG=1"
        process.send_signal(signal.SIGSTOP)
        manager.settimeout(2)
        with pytest.raises(TimeoutError):
            while True:  # what was on its way
                assert manager.recv(100) == b"WATCHDOG=1"
        manager.settimeout(300)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        while (said := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
    assert process.returncode in (0, -signal.SIGTERM), "what systemd takes for a clean end"
