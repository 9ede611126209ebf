"""How two pictures of one camera differ, but for light, noise and a shaking camera.

Pictures are compared as thumbnails: blurred a little, the earlier one shifted to where it fits best
and brought to the later one's brightness channel by channel; what remains outside the range of its
neighbours (one pixel around) is a change. Arithmetic only; nothing here knows of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miloco_edge.types import RGB
from miloco_edge.video import opencv

SIDE = 160
"""Longest side of a thumbnail, in pixels."""
LEAST_LEVELS = 14.0
"""Of 255: a smaller difference is never a change. Compression alone makes steps of 8."""
NOISE_LEVELS = 10.0
NOISE_SHARE = 2.0
"""A difference below NOISE_LEVELS + NOISE_SHARE * (median difference) is noise."""
_RIDGE = 30.0
"""Levels squared: a picture with less variance is not stretched to fit."""
_FAR = 4
"""Largest shift that is looked for, in pairs of pixels."""

FloatPicture = NDArray[np.float32]
Mask = NDArray[np.bool_]


def thumbnail(pixels: RGB) -> FloatPicture:
    """(h, w, 3) uint8 to float32 of at most SIDE a side, slightly blurred."""
    cv2 = opencv.load()
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    skip = max(1, int(1 / scale) // 2)
    size = max(16, round(width * scale)), max(16, round(height * scale))
    small = cv2.resize(pixels[::skip, ::skip], size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0))


@dataclass(frozen=True, eq=False)
class Difference:
    """What is different in a later picture. Shapes are those of the thumbnails, (h, w)."""

    changed: Mask
    shift: tuple[int, int]
    """By how many pixels (x, y) the earlier picture was moved to fit."""


def compare(earlier: FloatPicture, later: FloatPicture) -> Difference:
    """What changed between two thumbnails of one shape."""
    if float(opencv.load().absdiff(earlier, later).max()) <= LEAST_LEVELS:
        return Difference(np.zeros(later.shape[:2], np.bool_), (0, 0))  # the common case, quickly
    unmoved = _changed(earlier, later, (0, 0))
    if not unmoved.any():
        return Difference(unmoved, (0, 0))
    shift = _shift(earlier, later)
    if shift == (0, 0):
        return Difference(unmoved, shift)
    return Difference(_changed(_moved(earlier, shift), later, shift), shift)


def largest(changed: Mask) -> float:
    """The largest connected area of a mask (h, w), as a share of it."""
    if not changed.any():
        return 0.0
    cv2 = opencv.load()
    _, _, stats, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8))
    return float(stats[1:, cv2.CC_STAT_AREA].max()) / changed.size


def bounds(changed: Mask, least: float) -> tuple[float, float, float, float] | None:
    """Around all connected areas of at least that share: x0, y0, x1, y1 from 0 to 1; or None."""
    cv2 = opencv.load()
    _, _, stats, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8))
    boxes = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:] if area >= least * changed.size]
    if not boxes:
        return None
    height, width = changed.shape
    x0, y0, x1, y1 = np.array(boxes).T
    return x0.min() / width, y0.min() / height, x1.max() / width, y1.max() / height


def brightness(picture: FloatPicture) -> float:
    """Mean level of a thumbnail, 0 to 255."""
    return float(picture.mean())


def colour(picture: FloatPicture) -> float:
    """How far a thumbnail is from grey, in levels; infrared pictures are below 3."""
    some = picture[::2, ::2]
    return float((_across(np.maximum, some) - _across(np.minimum, some)).mean())


def _across(combine: np.ufunc, picture: FloatPicture) -> FloatPicture:
    """A thumbnail's three channels as one, (h, w).

    `picture.max(2)` says the same in twenty times the time: numpy's reductions over so short an
    axis are a loop in which each step is a call.
    """
    return np.asarray(combine(combine(picture[..., 0], picture[..., 1]), picture[..., 2]))


def likeness(earlier: FloatPicture, later: FloatPicture, within: Mask) -> float:
    """How alike two thumbnails are in their outlines, whatever the light: 1 the same, 0 not at all.

    Correlation, within a mask (h, w), of what is left when the smooth part of each is taken away.
    """
    a, b = _outlines(earlier)[within], _outlines(later)[within]
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0


def _outlines(picture: FloatPicture) -> FloatPicture:
    sharp = _smooth_taken(picture)
    contrast = opencv.load().GaussianBlur(np.abs(sharp), (0, 0), 8.0)
    return np.asarray(sharp / (contrast + 1.0))


def _smooth_taken(picture: FloatPicture) -> FloatPicture:
    """A thumbnail in grey without its smooth part, (h, w)."""
    grey = _across(np.add, picture) / np.float32(3)
    return np.asarray(grey - opencv.load().GaussianBlur(grey, (0, 0), 4.0))


def _changed(earlier: FloatPicture, later: FloatPicture, shift: tuple[int, int]) -> Mask:
    cv2 = opencv.load()
    gain, offset = _light(earlier, later)
    fitted = earlier * gain + offset
    noise = float(np.median(np.abs(later - fitted)[::2, ::2]))
    around = np.ones((3, 3), np.uint8)
    above = later - cv2.dilate(fitted, around)
    below = cv2.erode(fitted, around) - later
    least = max(LEAST_LEVELS, NOISE_LEVELS + NOISE_SHARE * noise)
    changed = _across(np.maximum, np.maximum(above, below)) > least
    if shift != (0, 0):  # a rim that the earlier picture does not show, and the blur around it
        rim_x, rim_y = abs(shift[0]) + 2, abs(shift[1]) + 2
        changed[:rim_y] = changed[-rim_y:] = False
        changed[:, :rim_x] = changed[:, -rim_x:] = False
    return np.asarray(changed)


def _light(earlier: FloatPicture, later: FloatPicture) -> tuple[FloatPicture, FloatPicture]:
    """Gain and offset, (3,) each, from one picture to the other, by what most of it says."""
    x, y = earlier.reshape(-1, 3)[::3], later.reshape(-1, 3)[::3]
    gain, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    for channel in range(3):
        a, b = x[:, channel], y[:, channel]
        for _ in range(3):
            mean_a, mean_b = a.mean(), b.mean()
            # Light multiplies, which is all that a picture without contrast can tell.
            ratio = (mean_b + 1) / (mean_a + 1)
            covariance = ((a - mean_a) * (b - mean_b)).mean() + _RIDGE * ratio
            slope = covariance / (((a - mean_a) ** 2).mean() + _RIDGE)
            gain[channel] = np.clip(slope, 0.3, 3.0)
            offset[channel] = mean_b - gain[channel] * mean_a
            error = np.abs(y[:, channel] - gain[channel] * x[:, channel] - offset[channel])
            near = error <= 4.0 + 2.0 * float(np.median(error))
            a, b = x[near, channel], y[near, channel]
    return gain, offset


def _shift(earlier: FloatPicture, later: FloatPicture) -> tuple[int, int]:
    """By how many pixels (x, y) to move the earlier picture: coarse at half size, then fine."""
    cv2 = opencv.load()
    a, b = _smooth_taken(earlier), _smooth_taken(later)  # light does not shift with the picture
    half_a, half_b = (
        cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in (a, b)
    )
    x, y = _best_shift(half_a, half_b, (0, 0), _FAR)
    return _best_shift(a, b, (2 * x, 2 * y), 1)


def _best_shift(
    earlier: FloatPicture, later: FloatPicture, around: tuple[int, int], reach: int
) -> tuple[int, int]:
    height, width = later.shape
    rim = min(reach + max(map(abs, around)), (min(height, width) - 8) // 2)
    inner = later[rim : height - rim, rim : width - rim]
    best, found = np.inf, (0, 0)
    for dy in range(around[1] - reach, around[1] + reach + 1):
        for dx in range(around[0] - reach, around[0] + reach + 1):
            if max(abs(dx), abs(dy)) > rim:
                continue
            moved = earlier[rim - dy : height - rim - dy, rim - dx : width - rim - dx]
            # Limited, so that what moved in the picture does not outweigh all that stayed.
            error = float(np.minimum(np.abs(inner - moved), 12.0).mean())
            error += 0.002 * (abs(dx) + abs(dy))
            if error < best:
                best, found = error, (dx, dy)
    return found


def _moved(picture: FloatPicture, shift: tuple[int, int]) -> FloatPicture:
    cv2 = opencv.load()
    height, width = picture.shape[:2]
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    return np.asarray(
        cv2.warpAffine(
            picture,
            matrix,
            (width, height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )
