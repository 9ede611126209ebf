"""What a visitor wants looked at, and how it should be answered."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from miloco_edge.page.words import Language
from miloco_edge.types import RGB
from miloco_edge.video import Clip

MOST_VISUAL_TOKENS = 4096
"""Of a whole clip, whatever the sliders say."""


@dataclass(frozen=True)
class Media:
    """What to look at: one clip, or several pictures, or a window that is already in memory."""

    paths: tuple[Path, ...] = ()
    pictures: bool = False
    """The files are separate pictures, not a video."""
    camera: str | None = None
    """A camera that the page's owner named."""
    window: Clip | None = None
    """Frames of a live webcam."""
    moment: float | None = None
    """When a camera is to be looked at: each moment of it is a look of its own."""

    def read(self, frames: int, seconds: float = 3.0) -> Clip:
        """Decode it: at most `frames` frames, or of a camera the next `seconds`.

        Raises NotFoundError or MediaError as Clip does.
        """
        if self.window is not None:
            return self.window
        if self.camera is not None:
            return Clip.from_camera(self.camera, seconds=seconds, fps=frames / seconds)
        if self.pictures:
            return Clip.from_images(self.paths[:frames])
        return Clip.from_file(self.paths[0], frames=frames)


@dataclass(frozen=True)
class View:
    """A look: what is looked at, and all that its prefill depends on."""

    media: Media | None
    frames: int = 6
    tokens_per_pair: int = 144
    smart_home: bool = False
    language: Language = "en"

    @property
    def visual_tokens(self) -> int:
        """What the frames together may cost; a separate picture costs what a pair does."""
        if self.media is not None and self.media.pictures:
            patches = min(self.frames, len(self.media.paths))
        else:
            patches = -(-self.frames // 2)
        return min(patches * self.tokens_per_pair, MOST_VISUAL_TOKENS)

    def read(self) -> Clip | None:
        """Decode the media; None for a conversation without pictures."""
        return None if self.media is None else self.media.read(self.frames)


@dataclass(frozen=True)
class Manner:
    """How to answer."""

    think: bool = False
    thinking_tokens: int = 256
    answer_tokens: int = 256
    deadline_s: float | None = None


class Film:
    """The newest frames of a visitor's webcam, as they come in."""

    def __init__(self, most: int = 64) -> None:
        self._frames: deque[tuple[float, RGB]] = deque(maxlen=most)

    def push(self, pixels: RGB, time_s: float | None = None) -> None:
        """Take a frame, (h, w, 3) uint8 RGB, shown now; one of another size begins anew."""
        time_s = time.monotonic() if time_s is None else time_s
        if self._frames and self._frames[-1][1].shape != pixels.shape:
            self._frames.clear()
        self._frames.append((time_s, pixels))

    def window(self, frames: int) -> Clip | None:
        """The newest frames, an even number, as one video; None before there are two."""
        newest = list(self._frames)[-frames:]
        newest = newest[len(newest) % 2 :]
        if not newest:
            return None
        times, pixels = zip(*newest, strict=True)
        span = times[-1] - times[0]
        return Clip.from_frames(pixels, (len(times) - 1) / span if span > 0 else 2.0, times)
