"""Parts of a picture that nobody sees, and parts that a rule is about: polygons.

Points are shares of width and height, from 0 to 1 and from the top left, so that they hold at every
resolution of a camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from miloco_edge.types import RGB


@dataclass(frozen=True)
class Polygon:
    """A closed outline of at least three points."""

    points: tuple[tuple[float, float], ...]
    """(x, y), each a share from 0 to 1."""

    def __post_init__(self) -> None:
        if len(self.points) < 3:
            raise ValueError(f"Polygon: expected at least 3 points, got {len(self.points)}")
        for x, y in self.points:
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise ValueError(f"Polygon: expected points from 0 to 1, got ({x:g}, {y:g})")
        area = sum(
            x0 * y1 - x1 * y0
            for (x0, y0), (x1, y1) in zip(
                self.points, (*self.points[1:], self.points[0]), strict=True
            )
        )
        if not area:
            raise ValueError("Polygon: expected points around an area, got all on one line")


def cover(pixels: RGB, polygons: Sequence[Polygon]) -> RGB:
    """The picture with the polygons black, borders included; a new array where there are any.

    pixels: (h, w, 3) uint8.
    """
    if not polygons:
        return pixels
    covered = pixels.copy()
    covered[_inside(tuple(polygons), pixels.shape[1], pixels.shape[0])] = 0
    return covered


def view(pixels: RGB, zone: Polygon) -> RGB:
    """What lies in the zone: its bounding rectangle, black outside the polygon.

    pixels: (h, w, 3) uint8; returns a new array.
    """
    inside = _inside((zone,), pixels.shape[1], pixels.shape[0])
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    seen = pixels[box].copy()
    seen[~inside[box]] = 0
    return seen


@lru_cache(maxsize=64)
def _inside(polygons: tuple[Polygon, ...], width: int, height: int) -> NDArray[np.bool_]:
    """Which pixels any of the polygons touches, (height, width)."""
    drawn = Image.new("1", (width, height))
    pen = ImageDraw.Draw(drawn)
    for polygon in polygons:
        outline = [
            (min(max(x * width - 0.5, 0), width - 1), min(max(y * height - 0.5, 0), height - 1))
            for x, y in polygon.points
        ]
        pen.polygon(outline, fill=1, outline=1)
    return np.array(drawn)
