"""RTSP, RTMP and HTTP streams and USB cameras, through OpenCV."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from miloco_edge.errors import MediaError, NotFoundError
from miloco_edge.video import opencv
from miloco_edge.video.address import Address
from miloco_edge.video.picture import MAX_PIXELS
from miloco_edge.video.source import Shot, lost, too_large

if TYPE_CHECKING:
    import cv2

_EARLY_S = 0.01
"""A frame so little before its moment is as good as on it."""
_DAMAGED = 50
"""Frames in a row that fail before the stream is taken to have ended."""


@dataclass(frozen=True)
class Stream:
    """A camera that OpenCV opens: RTSP (over TCP where the camera can), RTMP, HTTP video, USB.

    Decoding is left to the hardware where OpenCV has a way to it. Every frame is decoded, for
    each builds on the last; only those that are wanted become pictures.
    """

    address: Address
    timeout_s: float = 10.0
    """Longest wait for an answer, and for the next frame."""

    @property
    def name(self) -> str:
        """The address, masked."""
        return str(self.address)

    def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
        """See `Source.shots`."""
        given = 0
        with self._opened() as video:
            if not video.isOpened():
                raise NotFoundError(
                    f"expected a camera at {self.name}, got no answer within {self.timeout_s:g} s",
                    hint="check the address, the credentials and that the camera is on; "
                    "`ffplay` or VLC shows whether the stream itself works",
                )
            codec, hardware = _decoding(video)
            for arrival_s, stream_s, elapsed_s in self._grabbed(video, stop):
                if elapsed_s < given / fps - _EARLY_S:
                    continue
                pixels = self._retrieved(video)
                if pixels is not None:
                    yield Shot(pixels, arrival_s, stream_s, codec, hardware)
                    # A stall is not made up for by a burst.
                    given = max(given + 1, int(elapsed_s * fps))

    def _opened(self) -> AbstractContextManager[cv2.VideoCapture]:
        if self.address.kind == "usb":
            text = self.address.secret()
            if text.isdigit():
                return opencv.capture(int(text), backend="CAP_ANY")
            return opencv.capture(text, backend="CAP_V4L2")
        return opencv.capture(
            self.address.secret(),
            open_timeout_msec=self.timeout_s * 1000,
            read_timeout_msec=self.timeout_s * 1000,
            hw_acceleration=opencv.load().VIDEO_ACCELERATION_ANY,
        )

    def _grabbed(
        self, video: cv2.VideoCapture, stop: threading.Event
    ) -> Iterator[tuple[float, float, float]]:
        """Grab frame after frame: its arrival, its stream time, and seconds since the first.

        The seconds are the stream's own, or those of arrivals where the stream's run behind.
        """
        position = opencv.load().CAP_PROP_POS_MSEC
        first: tuple[float, float] | None = None
        damaged = 0
        quiet_since = time.monotonic()
        while not stop.is_set():
            if not video.grab():
                damaged += 1
                if damaged == _DAMAGED or time.monotonic() - quiet_since > self.timeout_s:
                    raise lost(self.name, "the end of the stream" if first else "none")
                continue
            damaged = 0
            quiet_since = now = time.monotonic()
            stream_s = video.get(position) / 1000
            first = first or (now, stream_s)
            yield now, stream_s, max(now - first[0], stream_s - first[1])

    def _retrieved(self, video: cv2.VideoCapture) -> np.ndarray | None:
        cv2 = opencv.load()
        try:
            decoded, frame = video.retrieve()
        except cv2.error as error:
            raise MediaError(
                self.name,
                f"{self.name}: expected a frame that decodes, got: {error.err}",
                hint="choose H.264 or MJPEG in the camera's settings",
            ) from error
        if not decoded:
            return None
        height, width = frame.shape[:2]
        if width * height > MAX_PIXELS:
            raise too_large(self.name, width, height)
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def _decoding(video: cv2.VideoCapture) -> tuple[str | None, bool]:
    """The codec's four characters, and whether hardware decodes it."""
    cv2 = opencv.load()
    code = int(video.get(cv2.CAP_PROP_FOURCC))
    letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24)) if code > 0 else b""
    name = letters.decode("ascii", "replace").strip()
    hardware = video.get(cv2.CAP_PROP_HW_ACCELERATION) > cv2.VIDEO_ACCELERATION_NONE
    return (name if name.isprintable() and name else None), bool(hardware)
