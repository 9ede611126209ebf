"""Shapes on pixels. Everything that is drawn comes down to OpenCV's filled polygons.

Coordinates are pixels with fractions, x to the right and y down. They are rounded to a sixteenth
of a pixel before OpenCV's integer rasteriser sees them, so a last bit that differs between
processors changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from typing import Concatenate, ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.demo.scenes.styles import Color, Style, mix, shade

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

P = ParamSpec("P")
T = TypeVar("T")

PARTS = (
    "", "palm", "thumb", "index", "middle", "ring", "little", "folded", "forearm",
    "head", "torso", "arm", "leg",
    "book", "closed_book", "phone", "lying_phone", "silent_phone", "cup", "dumbbell",
    "screen_off", "programme", "game", "document",
)  # fmt: skip
"""What a pixel may show; "" is all that is none of the others."""

_SHIFT = 4
_ARC = 6
_HALF_CIRCLE = [
    (math.cos(math.pi * i / _ARC), math.sin(math.pi * i / _ARC)) for i in range(_ARC + 1)
]
_CIRCLE = [(math.cos(math.tau * i / 20), math.sin(math.tau * i / 20)) for i in range(20)]


class Canvas:
    """A picture that is being drawn in a style."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        style: Style,
        height: float,
        origin: Point = (0, 0),
        parts: NDArray[np.uint8] | None = None,
    ) -> None:
        """`pixels` (h, w, 3) are drawn on in place; `height` of the frame scales line widths.

        `origin` is where the scene's (0, 0) lies on the pixels. `parts` (h, w) receives what each
        pixel shows, as an index into PARTS.
        """
        self.pixels, self.style, self.parts = pixels, style, parts
        self._part = 0
        self._origin = np.array(origin, np.float64)
        self.outline = style.outline * height / 1000
        self.shadow = style.shadow * height / 1000
        self._tones: dict[Color, Color] = {}
        self._box: list[float] | None = None

    @contextmanager
    def tracked(self) -> Iterator[list[float]]:
        """What is drawn inside grows a box, x0 y0 x1 y1; nothing drawn leaves it inverted."""
        outer = self._box
        self._box = box = [math.inf, math.inf, -math.inf, -math.inf]
        yield box
        self._box = outer

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is drawn inside is `name`, one of PARTS; the outermost name holds."""
        outer = self._part
        self._part = outer or PARTS.index(name)
        yield
        self._part = outer

    def tone(self, color: Color) -> Color:
        """A colour in this style."""
        if color not in self._tones:
            self._tones[color] = self.style.tone(color)
        return self._tones[color]

    def fill(self, points: Sequence[Point], color: Color) -> None:
        """A polygon with no outline, in exactly this colour."""
        corners = np.array(points) + self._origin
        if self._box is not None:
            x0, y0 = corners.min(0)
            x1, y1 = corners.max(0)
            box = self._box
            box[:] = min(box[0], x0), min(box[1], y0), max(box[2], x1), max(box[3], y1)
        fixed = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(self.pixels, [fixed], color, cv2.LINE_AA, _SHIFT)
        if self.parts is not None:
            cv2.fillPoly(self.parts, [fixed], self._part, cv2.LINE_8, _SHIFT)

    def polygon(self, points: Sequence[Point], color: Color, *, line: bool = True) -> None:
        """A shape as the style draws it: shadow, outline, colour."""
        color = self.tone(color)
        if self.shadow and line:
            self._cast(points)
        self.fill(points, color)
        if self.outline and line:
            corners = np.array(points) + self._origin
            fixed = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
            width = max(1, round(self.outline))
            cv2.polylines(self.pixels, [fixed], True, self._ink(color), width, cv2.LINE_AA, _SHIFT)

    def rect(self, x0: float, y0: float, x1: float, y1: float, color: Color, *,
             line: bool = True) -> None:  # fmt: skip
        """An upright rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, line=line)

    def disc(self, center: Point, radius: float, color: Color, *, line: bool = True,
             squash: float = 1.0) -> None:  # fmt: skip
        """A disc; `squash` below 1 flattens it."""
        x, y = center
        toned = self.tone(color)
        if self.outline and line:
            grown = radius + self.outline
            self.fill([(x + c * grown, y + s * grown * squash) for c, s in _CIRCLE],
                      self._ink(toned))  # fmt: skip
        points = [(x + c * radius, y + s * radius * squash) for c, s in _CIRCLE]
        if self.shadow and line:
            self._cast(points)
        self.fill(points, toned)
        if self.style.highlight and line and radius > 2:
            inner = radius * 0.6
            lit = mix(toned, (255, 255, 255), self.style.highlight * 0.6)
            self.fill([(x - radius * 0.2 + c * inner, y - radius * 0.25 + s * inner * squash)
                       for c, s in _CIRCLE], lit)  # fmt: skip

    def limb(self, points: Sequence[Point], radii: Sequence[float], color: Color) -> None:
        """A bent tube through `points`, with the radius at each; one outline around all of it."""
        color = self.tone(color)
        pieces = list(zip(points, points[1:], radii, radii[1:], strict=False))
        if self.outline:
            for p, q, r, s in pieces:
                self.fill(self._tube(p, q, r + self.outline, s + self.outline), self._ink(color))
        for p, q, r, s in pieces:
            outline = self._tube(p, q, r, s)
            if self.shadow:
                self._cast(outline)
            self.fill(outline, color)
        if self.style.highlight:
            lit = mix(color, (255, 255, 255), self.style.highlight * 0.6)
            for p, q, r, s in pieces:
                if r > 1.2:
                    a, b = (p[0] - r * 0.25, p[1] - r * 0.3), (q[0] - s * 0.25, q[1] - s * 0.3)
                    self.fill(self._tube(a, b, r * 0.4, s * 0.4), lit)

    def stroke(self, points: Sequence[Point], width: float, color: Color) -> None:
        """A thin line without an outline."""
        for p, q in pairwise(points):
            self.fill(self._tube(p, q, width / 2, width / 2), self.tone(color))

    def _ink(self, color: Color) -> Color:
        return shade(color, self.style.outline_shade)

    def _cast(self, points: Sequence[Point]) -> None:
        """A hard shadow, which belongs to no one's box."""
        box, self._box = self._box, None
        parts, self.parts = self.parts, None
        d = self.shadow
        self.fill([(x + d * 0.7, y + d) for x, y in points], self.tone((70, 66, 74)))
        self._box, self.parts = box, parts

    def _tube(self, p: Point, q: Point, r: float, s: float) -> list[Point]:
        """Outline of a straight tube from p (radius r) to q (radius s)."""
        dx, dy = q[0] - p[0], q[1] - p[1]
        length = math.hypot(dx, dy)
        ux, uy = (dx / length, dy / length) if length > 1e-6 else (1.0, 0.0)
        nx, ny = -uy, ux
        if self.style.square:
            e, f = r * 0.8, s * 0.8
            return [
                (p[0] + nx * r - ux * e, p[1] + ny * r - uy * e),
                (p[0] - nx * r - ux * e, p[1] - ny * r - uy * e),
                (q[0] - nx * s + ux * f, q[1] - ny * s + uy * f),
                (q[0] + nx * s + ux * f, q[1] + ny * s + uy * f),
            ]
        start = [(p[0] + (nx * c - ux * v) * r, p[1] + (ny * c - uy * v) * r)
                 for c, v in _HALF_CIRCLE]  # fmt: skip
        end = [(q[0] + (-nx * c + ux * v) * s, q[1] + (-ny * c + uy * v) * s)
               for c, v in _HALF_CIRCLE]  # fmt: skip
        return start + end


def part(
    name: str,
) -> Callable[[Callable[Concatenate[Canvas, P], T]], Callable[Concatenate[Canvas, P], T]]:
    """All that the function draws on its canvas is `name`, one of PARTS."""

    def mark(draw: Callable[Concatenate[Canvas, P], T]) -> Callable[Concatenate[Canvas, P], T]:
        @wraps(draw)
        def marked(canvas: Canvas, /, *args: P.args, **kwargs: P.kwargs) -> T:
            with canvas.part(name):
                return draw(canvas, *args, **kwargs)

        return marked

    return mark
