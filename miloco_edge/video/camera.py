"""A window of a camera: RTSP, RTMP, HTTP or USB, through OpenCV."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miloco_edge.errors import MediaError, NotFoundError
from miloco_edge.types import RGB
from miloco_edge.video import opencv
from miloco_edge.video.picture import MAX_PIXELS

if TYPE_CHECKING:
    import cv2

log = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https")

_EARLY_S = 0.01
"""A frame so little before its moment is as good as on it."""
_DAMAGED = 50
"""Frames in a row that fail before the stream is taken to have ended."""

_USERINFO = re.compile(r"://.*@")
_SECRET = re.compile(r"(?i)((?:pass|pwd|token|secret|key|auth|user)\w*=)[^&;/\s]*")


def masked(source: str | int) -> str:
    """`source` as it may be shown: without user names, passwords and tokens."""
    text = f"USB camera {source}" if isinstance(source, int) else source
    return _SECRET.sub(r"\1***", _USERINFO.sub("://***@", text))


def watch(
    source: str | int, *, seconds: float, fps: float, timeout_s: float
) -> Iterator[tuple[float, RGB]]:
    """The frames of the next `seconds` at `fps`, each with its time since the first, in seconds.

    A frame's time is the stream's own, or that of its arrival where the stream's runs behind it
    (motion JPEG states no times). An even number is taken, two at least; where the stream ends or
    stalls for `timeout_s`, those that came are given, with a warning.

    Raises `NotFoundError` where no camera answers, `MediaError` where it shows nothing.
    """
    name = masked(source)
    wanted = max(2, round(seconds * fps / 2) * 2)
    given = 0
    with _opened(source, timeout_s) as video:
        if not video.isOpened():
            raise NotFoundError(
                f"expected a camera at {name}, got no answer within {timeout_s:g} s",
                hint="check the address, the credentials and that the camera is on; "
                "`ffplay` or VLC shows whether the stream itself works",
            )
        for elapsed_s in _grabbed(video, give_up_s=seconds + timeout_s):
            if elapsed_s < given / fps - _EARLY_S:
                continue
            decoded, frame = video.retrieve()
            if not decoded:
                continue
            yield elapsed_s, _rgb(frame, name)
            given += 1
            if given == wanted:
                return
    if not given:
        raise MediaError(
            name,
            f"{name}: expected {wanted} frames, got none that decodes",
            hint="the camera answers but its stream cannot be decoded; choose H.264 or MJPEG in "
            "its settings",
        )
    log.warning("%s: expected %d frames, got %d: the stream ended", name, wanted, given)


def _opened(source: str | int, timeout_s: float) -> AbstractContextManager[cv2.VideoCapture]:
    if isinstance(source, int) or source.isdigit():
        return opencv.capture(int(source), backend="CAP_ANY")
    if source.startswith("/dev/"):
        return opencv.capture(source, backend="CAP_V4L2")
    scheme, separator, _ = source.partition("://")
    if scheme.lower() not in SCHEMES if separator else not Path(source).is_file():
        raise NotFoundError(
            f"expected a camera, got {masked(source)}",
            hint=f"name it as {'://, '.join(SCHEMES)}://, a USB camera's index, or a device",
        )
    timeout_ms = timeout_s * 1000
    return opencv.capture(source, open_timeout_msec=timeout_ms, read_timeout_msec=timeout_ms)


def _grabbed(video: cv2.VideoCapture, *, give_up_s: float) -> Iterator[float]:
    """Grab frame after frame; each gives the seconds since the first."""
    properties = opencv.load()
    begun = time.monotonic()
    first: tuple[float, float] | None = None
    damaged = 0
    while damaged < _DAMAGED and time.monotonic() - begun < give_up_s:
        if not video.grab():
            damaged += 1
            continue
        damaged = 0
        now = time.monotonic(), video.get(properties.CAP_PROP_POS_MSEC) / 1000
        first = first or now
        yield max(now[0] - first[0], now[1] - first[1])


def _rgb(frame: Any, name: str) -> RGB:
    height, width = frame.shape[:2]
    if width * height > MAX_PIXELS:
        raise MediaError(
            name,
            f"{name}: expected frames of at most {MAX_PIXELS} pixels, got {width}x{height}",
            hint="choose a smaller stream in the camera's settings",
        )
    properties = opencv.load()
    return np.asarray(properties.cvtColor(frame, properties.COLOR_BGR2RGB))
