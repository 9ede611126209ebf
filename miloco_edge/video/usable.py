"""Whether pictures show anything at all: black, covered and frozen ones do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from miloco_edge.types import RGB

Unusable = Literal["black", "covered", "frozen"]

BLACK_LUMA = 24.0
"""No more than this, and it is night, a dead sensor or no signal (black is 16 in video's range)."""
EDGE = 3.0
"""Luma by which neighbouring blocks differ where anything is in sight."""
_BLOCK = 8
_BRIGHTEST, _SHARPEST = 0.99, 0.99


def unusable(frames: Sequence[RGB], *, live: bool = False) -> Unusable | None:
    """Why nothing can be seen in any of the frames, each (h, w, 3) uint8; None if it can.

    `live` says that the frames are moments of a camera, whose sensor never gives the same picture
    twice: two or more that are equal to the last bit are a frozen stream.
    """
    if live and is_frozen(frames):
        return "frozen"
    blind: Unusable | None = None
    for frame in frames:
        if is_black(frame):
            blind = blind or "black"
        elif is_covered(frame):
            blind = blind or "covered"
        else:
            return None
    return blind


def is_black(frame: RGB) -> bool:
    """Whether all but the brightest hundredth of a frame, (h, w, 3) uint8, is black."""
    return bool(np.quantile(_blocks(frame), _BRIGHTEST) <= BLACK_LUMA)


def is_covered(frame: RGB) -> bool:
    """Whether a frame, (h, w, 3) uint8, has no edge anywhere: a hand or a cloth on the lens."""
    blocks = _blocks(frame)
    steps = [np.abs(np.diff(blocks, axis=axis)).ravel() for axis in (0, 1)]
    edges = np.concatenate(steps)
    return bool(edges.size and np.quantile(edges, _SHARPEST) <= EDGE)


def is_frozen(frames: Sequence[RGB]) -> bool:
    """Whether there are two frames or more and all are equal to the last bit."""
    return len(frames) > 1 and all(np.array_equal(frames[0], frame) for frame in frames[1:])


def _blocks(frame: RGB) -> NDArray[np.float32]:
    """Mean luma (BT.601) of blocks of 8x8, so that noise does not count: (h / 8, w / 8)."""
    luma = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    h, w = (max(1, n // _BLOCK) for n in luma.shape)
    bh, bw = luma.shape[0] // h, luma.shape[1] // w
    cut = luma[: h * bh, : w * bw]
    return np.asarray(cut.reshape(h, bh, w, bw).mean(axis=(1, 3)))
