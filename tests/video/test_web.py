"""HTTP cameras: motion JPEG, pictures, logins, and what goes wrong with them."""

from __future__ import annotations

import base64
import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from miloco_edge.errors import MediaError, MilocoEdgeError, NotFoundError
from miloco_edge.video.address import Address
from miloco_edge.video.camera import source_at
from miloco_edge.video.probe import probe
from miloco_edge.video.source import Shot
from tests.video.conftest import numbered

Respond = Callable[[BaseHTTPRequestHandler], None]


def jpeg(index: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(numbered(index)).save(file, "JPEG", quality=95)
    return file.getvalue()


@contextmanager
def camera(respond: Respond) -> Iterator[str]:
    """The address, without its scheme, of a server that answers as told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the reader has seen enough
                respond(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}/cam"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, kind: str, body: bytes = b"") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.end_headers()
    handler.wfile.write(body)


def motion_jpeg(
    count: int, *, boundary: str = "--frame", length: bool = True, gap_s: float = 0.02
) -> Respond:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        send(handler, f"multipart/x-mixed-replace; boundary={boundary}")
        mark = b"--" + boundary.strip('"-').encode()
        for i in range(count):
            body = jpeg(i)
            size = f"Content-Length: {len(body)}\r\n" if length else ""
            head = f"Content-Type: image/jpeg\r\n{size}\r\n".encode()
            handler.wfile.write(mark + b"\r\n" + head + body + b"\r\n")
            time.sleep(gap_s)
        handler.wfile.write(mark + b"--\r\n")

    return respond


def shots(url: str, count: int, *, fps: float = 1000.0, timeout_s: float = 20.0) -> list[Shot]:
    source = source_at(Address.parse(url), timeout_s=timeout_s)
    return list(itertools.islice(source.shots(threading.Event(), fps=fps), count))


def numbers(found: list[Shot]) -> list[int]:
    return [
        sum(1 << bit for bit, value in enumerate(shot.pixels[32, 8::16, 0]) if value > 127)
        for shot in found
    ]


@pytest.mark.parametrize("boundary", ["--frame", "frame", '"my boundary"'])
@pytest.mark.parametrize("length", [True, False])
def test_motion_jpeg(boundary: str, length: bool) -> None:
    with camera(motion_jpeg(6, boundary=boundary, length=length)) as place:
        found = shots(f"http://{place}", 5)
    assert numbers(found) == [0, 1, 2, 3, 4]
    times = [shot.arrival_s for shot in found]
    assert times == sorted(times)
    assert found[0].codec == "motion JPEG"


def test_only_wanted_pictures_of_a_stream_are_decoded() -> None:
    with camera(motion_jpeg(60, gap_s=0.01)) as place:
        found = shots(f"http://{place}", 3, fps=8.0)
    gaps = np.diff([shot.arrival_s for shot in found])
    assert gaps.min() > 0.05


def test_the_end_of_a_stream_is_a_loss() -> None:
    with camera(motion_jpeg(2)) as place, pytest.raises(MediaError, match="end of the stream"):
        shots(f"http://{place}", 5)


def test_a_damaged_picture_is_passed_over() -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        send(handler, "multipart/x-mixed-replace; boundary=x")
        for body in (jpeg(1), jpeg(2)[:200], b"no picture", jpeg(3)):
            head = f"--x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            handler.wfile.write(head + body + b"\r\n")

    with camera(respond) as place:
        assert numbers(shots(f"http://{place}", 2)) == [1, 3]


def test_pictures_are_asked_for_again_and_again() -> None:
    count = itertools.count()
    with camera(lambda handler: send(handler, "image/jpeg", jpeg(next(count)))) as place:
        found = shots(f"http://{place}", 4, fps=20.0)
    assert numbers(found) == [0, 1, 2, 3]
    assert found[3].arrival_s - found[0].arrival_s >= 3 / 20 - 0.02


def test_basic_and_digest_logins() -> None:
    def basic(handler: BaseHTTPRequestHandler) -> None:
        wanted = "Basic " + base64.b64encode(b"admin:s3:cret@").decode()
        if handler.headers.get("Authorization") == wanted:
            send(handler, "image/jpeg", jpeg(5))
        else:
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="cam"')
            handler.end_headers()

    def digest(handler: BaseHTTPRequestHandler) -> None:
        given = handler.headers.get("Authorization", "")
        if given.startswith('Digest username="admin"') and "s3:cret@" not in given:
            send(handler, "image/jpeg", jpeg(6))
        else:
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Digest realm="cam", nonce="abc", qop="auth"')
            handler.end_headers()

    for respond, number in ((basic, 5), (digest, 6)):
        with camera(respond) as place:
            assert numbers(shots(f"http://admin:s3%3Acret%40@{place}", 1)) == [number]
            if respond is basic:
                with pytest.raises(NotFoundError, match="HTTP status 401") as caught:
                    shots(f"http://admin:wr0ng@{place}", 1)
                assert "wr0ng" not in str(caught.value)
                assert "password" in str(caught.value.hint)


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_is_told_by_its_status(status: int) -> None:
    with (
        camera(lambda handler: handler.send_error(status)) as place,
        pytest.raises(NotFoundError, match=f"HTTP status {status}"),
    ):
        shots(f"http://{place}", 1)


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(2)


def stall(handler: BaseHTTPRequestHandler) -> None:
    send(handler, "multipart/x-mixed-replace; boundary=x", b"--x\r\nContent-Length: 900\r\n\r\nabc")
    time.sleep(2)


def too_large(handler: BaseHTTPRequestHandler) -> None:
    send(handler, "multipart/x-mixed-replace; boundary=x")
    handler.wfile.write(b"--x\r\nContent-Length: 99999999999\r\n\r\n")


def endless_header(handler: BaseHTTPRequestHandler) -> None:
    send(handler, "multipart/x-mixed-replace; boundary=x")
    for _ in range(2000):
        handler.wfile.write(b"a: " + b"b" * 100 + b"\r\n")


def no_boundary(handler: BaseHTTPRequestHandler) -> None:
    send(handler, "multipart/x-mixed-replace")


def no_picture(handler: BaseHTTPRequestHandler) -> None:
    send(handler, "image/jpeg", b"GIF89a is what it is not")


@pytest.mark.parametrize(
    "respond", [hang, stall, too_large, endless_header, no_boundary, no_picture]
)
def test_what_goes_wrong_is_an_error_of_ours_that_shows_no_secret(respond: Respond) -> None:
    with camera(respond) as place, pytest.raises(MilocoEdgeError) as caught:
        shots(f"http://admin:s3cret@{place}?token=abc", 1, timeout_s=0.5)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
    assert "abc" not in str(caught.value)


def test_nobody_there() -> None:
    with pytest.raises(NotFoundError, match="expected a camera at"):
        shots("http://admin:s3cret@127.0.0.1:1/cam", 1)


def test_a_probe_says_what_it_sees() -> None:
    with camera(motion_jpeg(40, gap_s=0.05)) as place:
        found = probe(Address.parse(f"http://{place}"), seconds=1.0)
    assert found.size == (128, 64)
    assert found.codec == "motion JPEG"
    assert found.fps is not None
    assert 5 < found.fps < 25
    assert found.first_frame_s < 10
    assert not found.frozen
    assert found.picture.shape == (64, 128, 3)


def test_a_probe_of_a_silent_camera_ends() -> None:
    with camera(hang) as place, pytest.raises(MilocoEdgeError):
        probe(Address.parse(f"http://{place}"), seconds=1.0, timeout_s=0.5)
