"""A film as an RTSP camera on loopback, by GStreamer's own server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.process import free_port

RTSP_SERVER = Path(__file__).parents[2] / "tests" / "integration" / "rtsp_server.py"


@contextmanager
def served(film: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """A film over real RTSP on loopback: its address, and since when it was shown."""
    port = str(free_port())
    command = ["/usr/bin/python3", str(RTSP_SERVER), port, "--film", str(film)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(
                "expected GStreamer's RTSP server to start, got its failure above: install the "
                "Debian packages that `python -m benchmarks.cameras --help` names, or --no-rtsp"
            )
        try:
            lines = process.stdout
            yield (
                f"rtsp://127.0.0.1:{port}/stream1",
                lambda: float(lines.readline().removeprefix("playing ")),
            )
        finally:
            process.terminate()
