"""Cameras that speak HTTP: motion JPEG, single pictures that are asked for again and again."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from miloco_edge.errors import MediaError, NotFoundError
from miloco_edge.types import RGB
from miloco_edge.video.address import Address
from miloco_edge.video.picture import decode_picture
from miloco_edge.video.source import Shot, lost, pause
from miloco_edge.video.streams import Stream

_MOST_BYTES = 32 << 20
"""Of one picture."""
_MOST_HEADER = 64 << 10
_EARLY_S = 0.01
_DAMAGED = 50
"""Pictures in a row that do not decode before the stream is given up."""


@dataclass(frozen=True)
class Web:
    """An HTTP or HTTPS camera; what it answers tells which kind it is.

    Motion JPEG (multipart/x-mixed-replace) is read part by part, a picture is asked for anew at
    every moment, and anything else is left to OpenCV. Basic and digest logins are answered. No
    proxy is asked: a camera is in the house. HTTPS certificates are verified.
    """

    address: Address
    timeout_s: float = 10.0

    @property
    def name(self) -> str:
        """The address, masked."""
        return str(self.address)

    def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
        """See `Source.shots`."""
        try:
            with self._asked() as answer:
                kind = answer.headers.get_content_type()
                if kind == "multipart/x-mixed-replace":
                    yield from self._parts(answer, stop, fps)
                    raise lost(self.name, "the end of the stream")
                first = self._decoded(_all_of(answer)) if kind.startswith("image/") else None
            if first is None:
                yield from Stream(self.address, self.timeout_s).shots(stop, fps=fps)
            else:
                yield from self._snapshots(first, stop, fps)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(self.name, error) from None  # its words may hold the address

    def _asked(self) -> http.client.HTTPResponse:
        url = self.address.secret(login=False)
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if self.address.login is not None:
            passwords.add_password(None, url, *self.address.login)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            _Digest(passwords),
            _Basic(passwords),
        )
        answer = opener.open(url, timeout=self.timeout_s)
        assert isinstance(answer, http.client.HTTPResponse)
        return answer

    def _snapshots(self, first: RGB, stop: threading.Event, fps: float) -> Iterator[Shot]:
        pixels, next_s = first, time.monotonic()
        while True:
            yield Shot(pixels, time.monotonic(), codec="pictures")
            next_s = max(next_s + 1 / fps, time.monotonic())
            if not pause(stop, next_s):
                return
            with self._asked() as answer:
                pixels = self._decoded(_all_of(answer))

    def _parts(
        self, answer: http.client.HTTPResponse, stop: threading.Event, fps: float
    ) -> Iterator[Shot]:
        """The pictures of a multipart stream, each as its last byte comes."""
        boundary = answer.headers.get_param("boundary")
        if not isinstance(boundary, str) or not boundary.strip('"- '):
            raise lost(self.name, "parts without a boundary between them")
        mark = b"--" + boundary.strip('"- ').encode()
        next_s, damaged = 0.0, 0
        while not stop.is_set():
            body = _part(answer, mark)
            if body is None:
                return
            now = time.monotonic()
            if not body or now < next_s - _EARLY_S:
                continue
            try:
                pixels = self._decoded(body)
            except MediaError:
                damaged += 1
                if damaged == _DAMAGED:
                    raise
                continue
            damaged = 0
            next_s = (max(next_s, now - 1 / fps) if next_s else now) + 1 / fps
            yield Shot(pixels, now, codec="motion JPEG")

    def _decoded(self, body: bytes) -> RGB:
        return decode_picture(body, self.name)


class _Closing(urllib.request.BaseHandler):
    """Closes the refusal that a second try with a password answers, which urllib leaves open."""

    def http_error_401(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any
    ) -> Any:
        """What the second try gives; None where this way of signing in is not asked for."""
        try:
            answer = super().http_error_401(req, fp, code, msg, headers)  # type: ignore[misc]
        except BaseException:
            fp.close()
            raise
        if answer is not None:
            fp.close()
        return answer


class _Digest(_Closing, urllib.request.HTTPDigestAuthHandler):
    pass


class _Basic(_Closing, urllib.request.HTTPBasicAuthHandler):
    pass


def _all_of(answer: http.client.HTTPResponse) -> bytes:
    body = answer.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise ValueError("a picture of more than 32 MiB")
    return body


def _part(answer: http.client.HTTPResponse, mark: bytes) -> bytes | None:
    """The body of the next part; None at the end of the stream."""
    length = None
    started = False
    header = 0
    while True:
        line = answer.readline(_MOST_HEADER)
        header += len(line)
        if not line:
            return None
        if header > _MOST_HEADER:
            raise ValueError("a part without a header")
        name, _, value = line.partition(b":")
        if line.strip().lstrip(b"-").startswith(mark[2:]):
            started = True
        elif name.strip().lower() == b"content-length" and value.strip().isdigit():
            started, length = True, int(value)
        elif not line.strip() and (started or length is not None):
            break
        elif value:
            started = True
    if length is not None:
        if length > _MOST_BYTES:
            raise ValueError("a picture of more than 32 MiB")
        body = answer.read(length)
        return body if len(body) == length else None
    return _until(answer, mark)


def _until(answer: http.client.HTTPResponse, mark: bytes) -> bytes | None:
    """What comes before the line that begins with the boundary."""
    lines: list[bytes] = []
    size = 0
    while size <= _MOST_BYTES:
        line = answer.readline(_MOST_HEADER)
        if not line:
            return None
        if line.startswith(mark) and lines and lines[-1].endswith(b"\n"):
            return b"".join(lines).rstrip(b"\r\n")
        lines.append(line)
        size += len(line)
    raise ValueError("a picture of more than 32 MiB")


def _unreachable(name: str, error: Exception) -> NotFoundError | MediaError:
    if isinstance(error, urllib.error.HTTPError):
        with error:
            got = f"HTTP status {error.code}"
        denied = error.code in (401, 403)
        return NotFoundError(
            f"expected a picture from {name}, got {got}",
            hint="check user and password" if denied else "check the path in the address",
        )
    if isinstance(error, urllib.error.URLError):
        return NotFoundError(
            f"expected a camera at {name}, got: {error.reason}",
            hint="check the address and that the camera is on",
        )
    if isinstance(error, TimeoutError):
        return lost(name, "silence")
    return lost(name, str(error) or type(error).__name__)
