"""The one door to OpenCV: loaded when first needed, and quiet.

`cv2` is imported by the first decode, not by `import miloco_edge`: it takes a tenth of a second,
and on a bare machine it fails for want of a shared library, which only a user of video should see.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from miloco_edge.errors import MediaError, MilocoEdgeError

if TYPE_CHECKING:
    import cv2

_FFMPEG_LOG = {"OPENCV_FFMPEG_DEBUG": "1", "OPENCV_FFMPEG_LOGLEVEL": "-8"}  # AV_LOG_QUIET


@cache
def load() -> ModuleType:
    """The `cv2` module. FFmpeg's own log goes quiet, unless the user has set its level.

    Raises `MilocoEdgeError` that names the missing shared library where `cv2` cannot be imported.
    """
    try:
        import cv2
    except ImportError as error:
        raise MilocoEdgeError(
            f"expected OpenCV to load, got: {error}",
            hint="install the shared library that is named (libGL.so.1 is in Debian's libgl1, "
            "libglib-2.0 in libglib2.0-0), or use the drop-in that needs none: "
            "pip uninstall opencv-python && pip install opencv-python-headless",
        ) from error
    # FFmpeg's log level is read from the environment once, by the first capture of the process.
    if not any(name in os.environ for name in _FFMPEG_LOG):
        os.environ.update(_FFMPEG_LOG)
        try:
            with _quiet(cv2):
                cv2.VideoCapture("", cv2.CAP_FFMPEG).release()
        finally:
            for name in _FFMPEG_LOG:
                del os.environ[name]
    return cv2


_lock = threading.Lock()
_depth = 0
_level = 0


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """OpenCV's log at errors only while any thread is inside, and as it was afterwards."""
    global _depth, _level
    log = cv2.utils.logging
    with _lock:
        if _depth == 0:
            _level = log.setLogLevel(log.LOG_LEVEL_ERROR)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                log.setLogLevel(_level)


@contextmanager
def capture(
    source: str | int, *, backend: str = "CAP_FFMPEG", **properties: float
) -> Iterator[cv2.VideoCapture]:
    """An OpenCV capture, opened or not, released at the end.

    `properties` are named as OpenCV names them without `CAP_PROP_`, in lower case:
    `capture(path, format=-1)` reads packets without decoding them.
    """
    cv2 = load()
    try:
        str(source).encode()
    except UnicodeEncodeError:  # OpenCV would end the process
        raise MediaError(
            str(source),
            f"expected a path in UTF-8, got {source!a}",
            hint="rename the file or its folder",
        ) from None
    flat = [
        int(x)
        for name, value in properties.items()
        for x in (getattr(cv2, f"CAP_PROP_{name.upper()}"), value)
    ]
    with _quiet(cv2):
        video = cv2.VideoCapture(source, getattr(cv2, backend), flat)
        try:
            yield video
        finally:
            video.release()
