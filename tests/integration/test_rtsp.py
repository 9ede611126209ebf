"""A camera window over real RTSP, from the command line and from Python."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miloco_edge import Clip
from miloco_edge.cli.main import main
from miloco_edge.errors import NotFoundError

pytestmark = pytest.mark.integration


@pytest.fixture
def camera() -> Iterator[Callable[..., str]]:
    """Starts a server and gives its host and path."""
    servers: list[subprocess.Popen[str]] = []

    def start(*credentials: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        script = Path(__file__).with_name("rtsp_server.py")
        command = ["/usr/bin/python3", str(script), str(port), *credentials]
        servers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert servers[-1].stdout is not None
        assert servers[-1].stdout.readline() == "ready\n", "GStreamer's RTSP server did not start"
        return f"127.0.0.1:{port}/stream1"

    yield start
    for server in servers:
        server.terminate()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def test_a_window_of_a_camera(camera: Callable[..., str]) -> None:
    clip = Clip.from_camera(f"rtsp://{camera()}", seconds=3, fps=2)
    assert len(clip.frames) == 6
    assert clip.frames[0].size == (448, 252)
    gaps = [b - a for a, b in zip(clip.times_s, clip.times_s[1:], strict=False)]
    assert all(0.3 < gap < 0.7 for gap in gaps), gaps
    assert any(
        (a.pixels != b.pixels).any() for a, b in zip(clip.frames, clip.frames[1:], strict=False)
    )


def test_infer_asks_a_camera(
    camera: Callable[..., str], pair: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = f"rtsp://porch:s3cret@{camera('porch', 's3cret')}"
    with pytest.raises(SystemExit) as ended:
        main(["infer", "--model", str(pair), "--camera", source, "--max-tokens", "4", "--json"])
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert ended.value.code == 0, err
    assert document["video"]["temporal_patches"] == 3
    assert "s3cret" not in out + err


def test_a_wrong_password_is_no_camera(camera: Callable[..., str]) -> None:
    with pytest.raises(NotFoundError) as caught:
        Clip.from_camera(f"rtsp://porch:wr0ng@{camera('porch', 's3cret')}", timeout_s=5)
    assert "wr0ng" not in str(caught.value)
