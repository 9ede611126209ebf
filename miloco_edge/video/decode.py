"""Video files through OpenCV (FFmpeg): when each frame is shown, and the frames that are wanted.

The container's frame count and rate are often wrong, so nothing here relies on them. Packets are
read without decoding first, which costs a millisecond per thousand frames and tells each frame's
presentation time and where the key frames are; then only what lies between a key frame and a
wanted frame is decoded.
"""

from __future__ import annotations

import codecs
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miloco_edge.errors import MediaError
from miloco_edge.types import RGB
from miloco_edge.video import opencv
from miloco_edge.video.picture import MAX_PIXELS
from miloco_edge.video.sample import TICK_S, FloatArray

if TYPE_CHECKING:
    import cv2

log = logging.getLogger(__name__)

SEEK_FRAMES = 64
"""A seek decodes some frames over again, so fewer than these are decoded instead of skipped."""
DAMAGED_PACKETS = 250
"""A damaged packet fails alone; so many in a row are the end of what can be read."""

# Text that FFmpeg would follow to other files or to the network.
_PLAYLIST = re.compile(rb"#EXTM3U|ffconcat|c=IN |<MPD|<\?xml|\[playlist\]|\[Reference\]", re.I)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_DECODE_HINT = (
    "OpenCV could not decode it; try "
    "`ffmpeg -i {name} -an -c:v libx264 -pix_fmt yuv420p fixed.mp4`, or another file"
)


@dataclass(frozen=True, eq=False)
class Timeline:
    """When the frames of a file are shown."""

    times: FloatArray
    """(n,) float64, seconds from the start of the file, ascending."""
    keys: NDArray[np.int64]
    """(k,) int64, indices of the frames where decoding can begin, ascending."""
    stated_rate: float
    """Frames per second by the container; may be wrong, or 0."""
    size: tuple[int, int]
    """(width, height) of the file, before any rotation."""
    counted: bool
    """The file has no timestamps (a raw stream): `times` are counted at the stated rate."""


def timeline(path: Path) -> Timeline:
    """Read the file's packets. Raises `MediaError` where there is no video in it."""
    with path.open("rb") as file:
        head = file.read(2048)
    if _PLAYLIST.search(head):
        raise MediaError(
            path,
            f"{path.name}: expected a video, got a playlist",
            hint="playlists are not followed; name the file or stream that it lists",
        )
    if _is_text(head):
        raise MediaError(
            path,
            f"{path.name}: expected a video or a picture, got text",
            hint="name the media file itself",
        )
    times: list[float] = []
    keys: list[bool] = []
    with opencv.capture(str(path.resolve()), format=-1) as packets:
        cv2 = opencv.load()
        while packets.isOpened() and packets.grab():
            times.append(packets.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            keys.append(packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) != 0)
        rate = packets.get(cv2.CAP_PROP_FPS)
        stated_s = packets.get(cv2.CAP_PROP_FRAME_COUNT) / rate if rate > 0 else 0.0
        size = (
            int(packets.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(packets.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
    if not times:
        raise MediaError(
            path,
            f"{path.name}: expected a video or a picture, got nothing that can be shown",
            hint=_DECODE_HINT.format(name=path.name),
        )
    if size[0] * size[1] > MAX_PIXELS:
        raise MediaError(
            path,
            f"{path.name}: expected frames of at most {MAX_PIXELS} pixels, got {size[0]}x{size[1]}",
            hint="scale the video down first",
        )
    shown = np.array(times)
    order = np.argsort(shown, kind="stable")  # packets come in decoding order
    counted = len(shown) > 1 and float(np.ptp(shown)) == 0.0
    if counted:
        rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else 25.0
        shown, order = np.arange(len(shown)) / rate, np.arange(len(shown))
    shown = shown if counted else shown[order]
    missing_s = stated_s - shown[-1] - 1
    if missing_s > 0.1 * stated_s:
        log.warning(
            "%s: expected %.1f s of video, got %.1f s: the file is cut short or damaged",
            path.name,
            stated_s,
            shown[-1],
        )
    return Timeline(
        shown,
        np.flatnonzero(np.array(keys)[order]),
        rate,
        size,
        counted,
    )


def _is_text(head: bytes) -> bool:
    """Whether a file begins as text; FFmpeg would show it as a video of a terminal."""
    if _CONTROL.search(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def decodable(path: Path, line: Timeline) -> Timeline:
    """The timeline of the frames that do decode, found by decoding them all.

    They are fewer than the packets where an edit list trims the file (packets are kept from the
    last key frame on and not shown), and where it is damaged.
    """
    times = []
    with _Decoder(path, line) as decoder:
        while decoder.grab():
            times.append(decoder.time_s)
    if not times:
        raise _undecodable(path, len(line.times))
    log.warning(
        "%s: %d of %d frames decode, the last at %.2f s: the others are trimmed off or damaged",
        path.name,
        len(times),
        len(line.times),
        times[-1],
    )
    return replace(line, times=np.array(times), keys=np.array([], np.int64))


def read_frames(path: Path, line: Timeline, indices: Sequence[int]) -> Iterator[tuple[float, RGB]]:
    """Decode the frames at `indices` (ascending, may repeat) of the file's timeline.

    Yields each frame's presentation time in seconds and its pixels, (h, w, 3) uint8, upright by
    the file's rotation. A frame that cannot be decoded is replaced by the next that can; what lies
    beyond the last such is left out. Raises `MediaError` where none can.
    """
    given = 0
    with _Decoder(path, line) as decoder:
        for index in indices:
            pixels = decoder.pixels() if decoder.go_to(index) else None
            if pixels is None:
                break
            yield decoder.time_s, pixels
            given += 1
    if not given:
        raise _undecodable(path, len(indices))


def _undecodable(path: Path, expected: int) -> MediaError:
    return MediaError(
        path,
        f"{path.name}: expected {expected} frames, got none that decodes",
        hint=_DECODE_HINT.format(name=path.name),
    )


class _Decoder:
    """A file opened for decoding, and where it stands."""

    def __init__(self, path: Path, line: Timeline) -> None:
        self.path = path
        self.line = line
        self.may_seek = not line.counted
        self._pixels: RGB | None = None

    def __enter__(self) -> _Decoder:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)

    def _open(self) -> None:
        self._context = opencv.capture(str(self.path.resolve()))
        self.video: cv2.VideoCapture = self._context.__enter__()
        self.cv2 = opencv.load()
        self.video.set(self.cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self.grabbed = 0
        self.time_s = -math.inf

    def go_to(self, index: int) -> bool:
        """Stand on the frame at `index`, or on the first readable one after it."""
        target = self.line.times[index] - TICK_S / 2
        if self.time_s >= target:
            return True
        if self.may_seek:
            self._seek(index)
        while self.time_s < target:
            if not self.grab():
                return False
        return True

    def pixels(self) -> RGB | None:
        """The frame that it stands on."""
        if self._pixels is None:
            try:
                decoded, frame = self.video.retrieve()
            except self.cv2.error as error:
                raise MediaError(
                    self.path,
                    f"{self.path.name}: expected a frame at {self.time_s:.2f} s, got: {error.err}",
                    hint=_DECODE_HINT.format(name=self.path.name),
                ) from error
            if decoded:
                self._pixels = np.asarray(self.cv2.cvtColor(frame, self.cv2.COLOR_BGR2RGB))
        return self._pixels

    def grab(self) -> bool:
        """Stand on the next frame that decodes."""
        self._pixels = None
        for _ in range(DAMAGED_PACKETS):
            if self.video.grab():
                self.grabbed += 1
                self.time_s = (
                    self.line.times[min(self.grabbed, len(self.line.times)) - 1]
                    if self.line.counted
                    else self.video.get(self.cv2.CAP_PROP_POS_MSEC) / 1000
                )
                return True
        return False

    def _seek(self, index: int) -> None:
        """Skip to the last key frame before `index` where that saves enough decoding.

        OpenCV converts a time to a frame number by the mean rate, so at a variable rate a seek may
        land anywhere. The first that lands past its target, or not ahead of where it began, is
        the last: the rest of the file is decoded frame by frame.
        """
        line = self.line
        here = int(np.searchsorted(line.times, self.time_s, "right"))
        key = line.keys[np.searchsorted(line.keys, index, "right") - 1] if len(line.keys) else 0
        if key - here < SEEK_FRAMES:
            return
        before = self.time_s
        self.video.set(self.cv2.CAP_PROP_POS_MSEC, line.times[index] * 1000)
        landed = self.grab()
        if landed and before < self.time_s <= line.times[index] + TICK_S / 2:
            return
        self.may_seek = False
        if not landed or self.time_s > line.times[index]:
            self.__exit__()
            self._open()
