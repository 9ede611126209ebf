"""Which frames of a video the model sees. Pure functions of presentation times.

The rules are qwen_vl_utils' (`smart_nframes`, `calculate_video_frame_range` in
vision_process.py): as many frames as the duration holds at the wanted rate, an even number, spread
evenly with both end points included. They are stated here over presentation times, so that they
hold for a variable frame rate as well.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

TICK_S = 1e-3
"""Containers such as Matroska and FLV round presentation times to a millisecond."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def window(times: FloatArray, start: float | None, end: float | None) -> slice:
    """The frames that are shown from `start` to `end` seconds, both included.

    times: (n,) float64, seconds, ascending.
    """
    first = 0 if start is None else int(np.searchsorted(times, start - TICK_S / 2, "left"))
    last = len(times) if end is None else int(np.searchsorted(times, end + TICK_S / 2, "right"))
    return slice(first, max(first, last))


def frame_rate(times: FloatArray, stated: float) -> float:
    """Frames per second of a video whose frames are shown at `times`.

    The container's own figure is exact where it is right and often wrong, so it counts only
    where the timestamps confirm it to within their rounding.

    times: (n,) float64, seconds, ascending, n >= 2.
    """
    span = float(times[-1] - times[0])
    if (
        math.isfinite(stated)
        and stated > 0
        and abs((len(times) - 1) / stated - span) <= 1.5 * TICK_S
    ):
        return stated
    return (len(times) - 1) / span if span > 0 else 1.0


def frame_count(
    total: int,
    rate: float,
    *,
    fps: float,
    min_frames: int,
    max_frames: int,
    frames: int | None = None,
) -> int:
    """How many of `total` frames at `rate` to take: an even number, or 1 where there is but one.

    `frames` overrides the count and is rounded to even (half to even, as qwen_vl_utils does),
    except 1, which asks for a still.
    """
    if total == 1 or frames == 1 or (frames is None and max_frames == 1):
        return 1
    if frames is not None:
        return max(2, min(round(frames / 2) * 2, total // 2 * 2))
    most = min(max_frames, total) // 2 * 2
    least = math.ceil(min_frames / 2) * 2
    return max(2, int(min(max(total / rate * fps, least), most) // 2) * 2)


def spread(times: FloatArray, count: int) -> IntArray:
    """Indices of `count` frames spread evenly over `times`, both end points included.

    At a constant frame rate (no timestamp further than one frame from a straight line) these are
    qwen_vl_utils' `linspace(0, total - 1, count).round()`. At a variable one, the frames nearest
    to evenly spread moments: a frame that stays on screen for long is taken more than once.

    times: (n,) float64, seconds, ascending. Returns (count,) int64, ascending.
    """
    total = len(times)
    if count == 1:
        return np.zeros(1, np.int64)
    positions = np.arange(count) * (total - 1) / (count - 1)
    line = np.linspace(times[0], times[-1], total)
    frame_s = (times[-1] - times[0]) / (total - 1)
    if np.abs(times - line).max() > frame_s:
        moments = np.linspace(times[0], times[-1], count)
        positions = np.interp(moments, times, np.arange(total))
    return np.rint(positions).astype(np.int64)
