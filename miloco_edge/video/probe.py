"""What a camera sends, seen for a few seconds."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass

import numpy as np

from miloco_edge.errors import MediaError, NotFoundError
from miloco_edge.types import RGB
from miloco_edge.video.address import Address
from miloco_edge.video.camera import source_at
from miloco_edge.video.source import Shot, lost

_EVERY = 1000.0
"""Frames a second: more than any camera sends, so that none is left out."""


@dataclass(frozen=True, eq=False)
class Probe:
    """What was seen of a camera."""

    source: str
    """Its address, masked."""
    size: tuple[int, int]
    """(width, height) of the last frame."""
    fps: float | None
    """Frames a second, by their own times where the stream states them; None for one frame."""
    codec: str | None
    hardware: bool
    """Whether hardware decodes it."""
    first_frame_s: float
    """From the first attempt to connect."""
    frames: int
    seconds: float
    """From the first frame to the last."""
    frozen: bool
    """Whether all frames, two at least, show the very same pixels."""
    picture: RGB
    """The last frame, (h, w, 3) uint8."""


def probe(address: Address, *, seconds: float = 5.0, timeout_s: float = 10.0) -> Probe:
    """Watch a camera for `seconds` after its first frame.

    Raises `NotFoundError` where none answers, `MediaError` where it shows nothing within
    `timeout_s`. A camera that is lost midway is described by what came.
    """
    source, stop = source_at(address, timeout_s=timeout_s), threading.Event()
    begun_s = time.monotonic()
    times: list[float] = []
    first: Shot | None = None
    last: Shot | None = None
    frozen = True
    limit = threading.Timer(timeout_s, stop.set)
    limit.daemon = True
    limit.start()
    try:
        for shot in source.shots(stop, fps=_EVERY):
            if first is None:
                limit.cancel()
                first, first_s = shot, time.monotonic()
            frozen = frozen and np.array_equal(first.pixels, shot.pixels)
            last = shot
            times.append(shot.arrival_s if shot.stream_s is None else shot.stream_s)
            if time.monotonic() - first_s >= seconds:
                break
    except (MediaError, NotFoundError):
        if first is None:
            raise
    finally:
        limit.cancel()
    if first is None or last is None:
        raise lost(source.name, f"none within {timeout_s:g} s")
    gaps = [b - a for a, b in itertools.pairwise(times) if b > a]
    height, width = last.pixels.shape[:2]
    return Probe(
        source.name,
        (width, height),
        len(gaps) / sum(gaps) if gaps else None,
        last.codec,
        last.hardware,
        first_s - begun_s,
        len(times),
        last.arrival_s - first.arrival_s,
        frozen and len(times) > 1,
        last.pixels,
    )
