"""What every source of frames is: something that connects and gives shots until it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from miloco_edge.errors import MediaError
from miloco_edge.types import RGB
from miloco_edge.video.picture import MAX_PIXELS

Clock = Callable[[], float]


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture as it came from a source."""

    pixels: RGB
    """(h, w, 3) uint8, RGB."""
    arrival_s: float
    """When it came, or when it was taken where that is known; seconds of the steady clock."""
    stream_s: float | None = None
    """The stream's own time, in seconds from any moment; None where it states none."""
    codec: str | None = None
    """Four characters or a name, where known: h264, hevc, MJPG."""
    hardware: bool = False
    """Whether a decoder in hardware made it."""


class Source(Protocol):
    """Where frames come from. A source holds nothing open between two calls of `shots`."""

    @property
    def name(self) -> str:
        """As a person would name it, without credentials."""
        ...

    def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
        """Connect, and give about `fps` shots a second until `stop` is set or the source ends.

        Returning means that there is nothing more to come; what is lost midway, and may come
        back, raises `MediaError`, and `NotFoundError` where nothing answers.
        """
        ...


def too_large(name: str, width: int, height: int) -> MediaError:
    """The error for a picture of more pixels than are decoded."""
    return MediaError(
        name,
        f"{name}: expected frames of at most {MAX_PIXELS} pixels, got {width}x{height}",
        hint="choose a smaller stream in the camera's settings",
    )


def lost(name: str, what: str) -> MediaError:
    """The error for a source that gave frames, or could have, and does no more."""
    return MediaError(
        name,
        f"{name}: expected more frames, got {what}",
        hint="check the camera, its cable or its place in the network; `miloco-edge camera probe` "
        "shows what it sends",
    )


def pause(stop: threading.Event, until_s: float, clock: Clock = time.monotonic) -> bool:
    """Wait for a moment of the steady clock; True unless `stop` was set meanwhile."""
    return not stop.wait(max(0.0, until_s - clock()))
