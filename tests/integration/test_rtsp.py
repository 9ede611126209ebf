"""A camera window over real RTSP, from the command line and from Python."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from miloco_edge import Clip
from miloco_edge.cli.main import main
from miloco_edge.errors import NotFoundError
from miloco_edge.hub.event import Event
from miloco_edge.hub.hub import Hub
from miloco_edge.video.address import Address
from miloco_edge.video.camera import source_at
from miloco_edge.video.feed import Backoff, Feed
from miloco_edge.video.probe import probe
from tests.hub.home import FakeEngine, home

pytestmark = pytest.mark.integration


@pytest.fixture
def camera() -> Iterator[Callable[..., str]]:
    """Starts a server and gives its host and path."""
    servers: list[subprocess.Popen[str]] = []

    def start(*credentials: str, port: int = 0, film: Path | None = None) -> str:
        if not port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        script = Path(__file__).with_name("rtsp_server.py")
        options = ["--login", *credentials] if credentials else []
        options += ["--film", str(film)] if film is not None else []
        command = ["/usr/bin/python3", str(script), str(port), *options]
        servers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert servers[-1].stdout is not None
        assert servers[-1].stdout.readline() == "ready\n", "GStreamer's RTSP server did not start"
        return f"127.0.0.1:{port}/stream1"

    def stop() -> None:
        servers[-1].kill()
        servers[-1].wait()

    start.stop = stop  # type: ignore[attr-defined]
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


def test_a_probe_of_a_camera(camera: Callable[..., str]) -> None:
    source = f"rtsp://porch:s3cret@{camera('porch', 's3cret')}"
    found = probe(Address.parse(source), seconds=3.0)
    assert (found.size, found.codec) == ((448, 252), "h264")
    assert found.fps is not None
    assert 12 < found.fps < 18
    assert not found.frozen
    assert "s3cret" not in found.source


def test_a_camera_that_goes_and_comes_back(
    camera: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    place = camera("porch", "s3cret")
    address = Address.parse(f"rtsp://porch:s3cret@{place}")
    source = source_at(address, timeout_s=3.0)
    with Feed(source, fps=4.0, backoff=Backoff(first_s=0.5, most_s=1.0)) as feed:
        eventually(lambda: len(feed.frames()) > 4)
        assert feed.status.state == "live"
        times = [frame.time_s for frame in feed.frames()]
        gaps = [b - a for a, b in pairwise(times)]
        assert all(0.1 < gap < 0.6 for gap in gaps), gaps
        camera.stop()  # type: ignore[attr-defined]
        eventually(lambda: feed.status.state == "lost")
        assert feed.status.error is not None
        before = feed.status.frames
        camera("porch", "s3cret", port=int(place.split(":")[1].split("/")[0]))
        eventually(lambda: feed.status.state == "live" and feed.status.frames > before + 4)
        times = [frame.time_s for frame in feed.frames()]
        assert times == sorted(set(times))
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    assert "s3cret" not in caplog.text


def test_a_hub_tells_what_a_camera_shows(camera: Callable[..., str], tmp_path: Path) -> None:
    """Ten seconds of darkness and then light, over H.264: told once, at its moment."""
    film, random = tmp_path / "film.avi", np.random.default_rng(3)
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    shapes = random.integers(0, 60, (6, 8, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    for i in range(300):
        noise = random.integers(0, 6, shapes.shape, dtype=np.uint8)
        writer.write(shapes + noise + np.uint8(30 if i < 100 else 180))
    writer.release()
    settings = home(tmp_path)
    hall = replace(
        settings.cameras["hall"],
        source=Address.parse(f"rtsp://{camera(film=film)}"),
        interval_s=0.5,
        seconds=1.0,
        fps=4.0,
        timeout_s=10.0,
    )
    events: list[Event] = []
    with Hub(replace(settings, cameras={"hall": hall}), FakeEngine()) as hub:
        hub.on_event(events.append)
        eventually(lambda: hub.status().feeds["hall"].frames > 0)
        dark = hub._cameras.feeds["hall"].frames()[0]
        eventually(lambda: "on" in [event.state for event in events])
        began = dark.time_s + hub.clock.epoch_s
    told = [event for event in events if event.state == "on"]
    assert len(told) == 1
    assert 0 < told[0].time - began < 15
    assert told[0].evidence is not None and told[0].evidence.frames == 4


def eventually(met: Callable[[], bool], within_s: float = 120.0) -> None:
    end_s = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < end_s, "it did not come"
        time.sleep(0.05)
