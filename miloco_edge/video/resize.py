"""How large a picture is shown to the model. Pure functions of sizes, and one resize.

Every size is (width, height) in pixels. A visual token covers 28x28 pixels, so a legal size has
both sides a multiple of 28.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from miloco_edge.types import RGB

FACTOR = 28
"""Pixels of a visual token's side: 14-pixel patches, merged two by two."""
MAX_RATIO = 200
TOTAL_PIXELS = int(128_000 * FACTOR * FACTOR * 0.9)
"""Most pixels of a whole video, counted once per temporal patch: 90 % of a context of 128 000."""

Size = tuple[int, int]


def tokens(size: Size) -> int:
    """Visual tokens of a picture, or of a merged frame pair, of a legal size."""
    return (size[0] // FACTOR) * (size[1] // FACTOR)


def smart_resize(size: Size, min_pixels: int, max_pixels: int) -> Size:
    """The legal size that keeps the aspect ratio best, within the limits.

    transformers' `smart_resize` (models/qwen2_vl/image_processing_qwen2_vl.py), with its guard
    that no side falls below one token; rounding is half to even.

    Raises ValueError where one side is more than 200 times the other.
    """
    width, height = size
    ratio = max(width, height) / min(width, height)
    if ratio > MAX_RATIO:
        raise ValueError(f"expected an aspect ratio of at most {MAX_RATIO}, got {ratio:.1f}")
    fit_w, fit_h = (round(side / FACTOR) * FACTOR for side in size)
    if fit_w * fit_h > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        return _floor(width / scale), _floor(height / scale)
    if fit_w * fit_h < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
        return _ceil(width * scale), _ceil(height * scale)
    return fit_w, fit_h


def frame_limits(video_pixels: Size, frames: int) -> Size:
    """Fewest and most pixels of one frame of a video of so many frames.

    qwen_vl_utils' `fetch_video`: a long video's frames share `TOTAL_PIXELS`, but for 5 % above
    the fewest pixels.
    """
    least, most = video_pixels
    return least, max(min(most, TOTAL_PIXELS * 2 // frames), int(least * 1.05))


def shrink(size: Size, max_tokens: int) -> Size:
    """The legal size of at most `max_tokens` visual tokens that shows `size` best.

    Of the whole tokens around the exact scale, those that use most of the budget, which are also
    those that keep the shape. (transformers' rule for its own limit, both sides rounded down,
    would give 12x5 where 12x6 keeps the budget and the shape: few tokens show the difference.)
    """
    width, height = size
    scale = math.sqrt(width * height / max_tokens)
    exact_w, exact_h = min(width / scale, max_tokens), min(height / scale, max_tokens)
    candidates = (
        (w, h)
        for w in {max(1, math.floor(exact_w)), math.ceil(exact_w)}
        for h in {max(1, math.floor(exact_h)), math.ceil(exact_h)}
        if w * h <= max_tokens
    )
    best_w, best_h = max(
        candidates, key=lambda c: (c[0] * c[1], -abs(math.log(c[0] / c[1] * height / width)))
    )
    return best_w * FACTOR, best_h * FACTOR


def resize(pixels: RGB, size: Size) -> RGB:
    """`pixels` at `size`, bicubic with antialias (Pillow), the whole field of view.

    pixels: (h, w, 3) uint8; returns (size[1], size[0], 3) uint8.
    """
    height, width, _ = pixels.shape
    if (width, height) == size:
        return np.ascontiguousarray(pixels)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _floor(side: float) -> int:
    return max(FACTOR, math.floor(side / FACTOR) * FACTOR)


def _ceil(side: float) -> int:
    return math.ceil(side / FACTOR) * FACTOR
