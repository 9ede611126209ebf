"""Sources on this machine: a file played in real time, a folder that receives pictures, a program
that pushes frames."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miloco_edge.errors import ClosedError, MediaError, MediaNotFoundError
from miloco_edge.types import RGB
from miloco_edge.video import decode, picture
from miloco_edge.video.sample import TICK_S
from miloco_edge.video.source import Clock, Shot, pause

_LOOK_S = 0.2
"""Between two looks into a folder."""
_WRITING_S = 5.0
"""A picture that cannot be read so long after it was written to is damaged, not unfinished."""


@dataclass(frozen=True)
class Played:
    """A video file, as a camera would show it: each frame at its moment, once or in a loop."""

    path: Path
    loop: bool = False

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
        """See `Source.shots`. A file's own rate is the most it gives."""
        if not self.path.is_file():
            raise MediaNotFoundError(self.path, hint="check the path")
        line = decode.timeline(self.path)
        moments = np.arange(line.times[0], line.times[-1] + TICK_S, 1 / fps)
        wanted = np.searchsorted(line.times, moments - TICK_S / 2)
        indices = np.unique(np.minimum(wanted, len(line.times) - 1)).tolist()
        frame_s = (line.times[-1] - line.times[0]) / max(1, len(line.times) - 1)
        start_s = time.monotonic()
        while True:
            for time_s, pixels in decode.read_frames(self.path, line, indices):
                shown_s = start_s + time_s - line.times[0]
                if not pause(stop, shown_s):
                    return
                yield Shot(pixels, shown_s)
            if not self.loop:
                return
            start_s += line.times[-1] - line.times[0] + (frame_s or 1 / fps)


@dataclass(frozen=True)
class Inbox:
    """A folder into which something else writes pictures; each is taken once, when it is whole.

    What lay there before is not looked at. A picture's moment is when its file was last written.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.path)

    def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
        """See `Source.shots`. Pictures are taken as they come, `fps` or not."""
        taken = time.time_ns(), ""
        while not stop.wait(_LOOK_S):
            for written_ns, name in self._newer(taken):
                age_s = (time.time_ns() - written_ns) / 1e9
                try:
                    pixels = picture.read_picture(self.path / name)
                except (MediaError, FileNotFoundError):
                    if age_s < _WRITING_S:
                        break  # it, and what came after it, at the next look
                    taken = written_ns, name
                    continue
                taken = written_ns, name
                yield Shot(pixels, time.monotonic() - max(0.0, age_s))

    def _newer(self, taken: tuple[int, str]) -> list[tuple[int, str]]:
        """When pictures were written that came after `taken`, and their names, in order."""
        try:
            files = [
                (file.stat().st_mtime_ns, file.name)
                for file in self.path.iterdir()
                if file.suffix.lower() in picture.SUFFIXES and file.is_file()
            ]
        except FileNotFoundError as error:
            if not self.path.is_dir():
                raise MediaNotFoundError(self.path, hint="check the path") from error
            return []  # a picture was taken away while it was looked at
        return sorted(file for file in files if file > taken)


@dataclass(frozen=True, eq=False)
class Pushed:
    """Frames that the host program gives: `source.push(pixels)`, from any thread."""

    label: str
    most: int = 8
    """Frames that wait at most; the oldest makes room."""
    clock: Clock = time.monotonic
    _waiting: queue.Queue[Shot | None] = field(default_factory=queue.Queue, init=False, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    @property
    def name(self) -> str:
        """The label."""
        return self.label

    def push(self, pixels: RGB, captured_s: float | None = None) -> None:
        """Give one frame, (h, w, 3) uint8 RGB, taken at `captured_s` of `time.monotonic` (now).

        It is copied: a capture that writes each frame into the same array is a picture that moves.
        Raises ValueError for anything else, `ClosedError` after `end`.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"push: expected (h, w, 3) uint8, got {pixels.shape} {pixels.dtype}")
        if self._ended.is_set():
            raise ClosedError(f"expected a source that still takes frames, got {self.label} ended")
        while self._waiting.qsize() >= self.most:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                break
        self._waiting.put(Shot(pixels.copy(), self.clock() if captured_s is None else captured_s))

    def end(self) -> None:
        """Say that no more frames come."""
        self._ended.set()
        self._waiting.put(None)

    def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
        """See `Source.shots`. Every frame that was pushed, `fps` or not."""
        while not stop.is_set():
            try:
                shot = self._waiting.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if shot is None:
                return
            yield shot
