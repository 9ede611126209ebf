from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from miloco_edge.errors import MediaError, NotFoundError
from miloco_edge.video import Clip
from miloco_edge.video.address import masked
from tests.video.conftest import WriteVideo, number_of


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def served(body: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A camera's URL that streams `body`, then waits before it hangs up."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/x-matroska")
            self.end_headers()
            try:
                self.wfile.write(body)
                time.sleep(pause_s)
            except OSError:
                pass  # the reader has seen enough

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://admin:s3cret@127.0.0.1:{server.server_port}/live?token=abc"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_window_of_a_stream(write_video: WriteVideo) -> None:
    with served(write_video(200, 25, "a.mkv").read_bytes()) as url:
        clip = Clip.from_camera(url, seconds=3, fps=2)
    seen = [number_of(frame.pixels) for frame in clip.frames]
    assert len(seen) == 6
    assert np.abs(np.diff(clip.times_s) - 0.5).max() < 0.05
    assert np.abs(np.diff(seen) - 12.5).max() < 2
    assert (clip.fps, clip.layout) == (2.0, "video")
    assert "s3cret" not in clip.source
    assert "abc" not in clip.source


def test_a_stream_that_ends_early_gives_what_it_had(
    write_video: WriteVideo, caplog: pytest.LogCaptureFixture
) -> None:
    body = write_video(30, 25, "a.mkv").read_bytes()
    with served(body) as url, caplog.at_level(logging.WARNING, "miloco_edge"):
        clip = Clip.from_camera(url, seconds=3, fps=2)
    assert len(clip.frames) == 3
    assert "expected 6 frames, got 3" in caplog.text
    assert "s3cret" not in caplog.text


def test_no_answer_is_waited_for_no_longer_than_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = time.monotonic()
        with pytest.raises(NotFoundError, match=r"no answer within 0\.5 s") as caught:
            Clip.from_camera(f"rtsp://admin:s3cret@127.0.0.1:{port}/1", timeout_s=0.5)
        assert time.monotonic() - begun < 5
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_a_stream_that_stalls_is_given_up(write_video: WriteVideo) -> None:
    whole = write_video(400, 25, "a.mkv").read_bytes()
    begun = time.monotonic()
    with served(whole[: len(whole) // 4], pause_s=5) as url:
        clip = Clip.from_camera(url, seconds=8, fps=2, timeout_s=0.5)
        assert 4 <= len(clip.frames) < 16
        assert time.monotonic() - begun < 4


def test_a_folder_that_receives_nothing_is_given_up(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def watch() -> None:
        try:
            Clip.from_camera(str(tmp_path), seconds=0.2, timeout_s=0.2)
        except MediaError as error:
            caught.append(error)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    watcher.join(5)
    assert caught and "got none" in str(caught[0])


def test_what_is_no_camera(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(NotFoundError):
        Clip.from_camera("rtsp://127.0.0.1:1/x", timeout_s=1)
    for source in ("concat:/etc/passwd|/etc/hosts", "file:///etc/passwd", "nowhere"):
        with pytest.raises(NotFoundError, match="expected a camera"):
            Clip.from_camera(source)
    with served(b"no video here " * 1000) as url, pytest.raises((NotFoundError, MediaError)) as e:
        Clip.from_camera(url, timeout_s=1)
    assert "s3cret" not in str(e.value)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://cam.local/1", "rtsp://cam.local/1"),
        ("rtsp://admin:pw@cam.local:554/1", "rtsp://***@cam.local:554/1"),
        ("rtsp://admin:p@ss/w:rd@cam/1", "rtsp://***@cam/1"),
        ("rtsp://cam/user=admin&password=pw&channel=1", "rtsp://cam/user=***&password=***&channel=1"),
        ("http://cam/snap.cgi?usr=a&PWD=pw", "http://cam/snap.cgi?usr=a&PWD=***"),
        (0, "USB camera 0"),
    ],
)  # fmt: skip
def test_credentials_are_masked(source: str | int, shown: str) -> None:
    assert masked(source) == shown
