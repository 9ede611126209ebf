"""What stands in a room. Sizes in pixels; `unit` is the height of a standing person."""

from __future__ import annotations

from models.demo.scenes.canvas import Canvas, Point
from models.demo.scenes.poses import SEAT
from models.demo.scenes.screens import Quad, grown
from models.demo.scenes.styles import Color, shade


def sofa_side(
    canvas: Canvas, x: float, floor: float, unit: float, facing: int, color: Color
) -> None:
    """A sofa seen from its end; `x` is where the hips of someone sitting on it are."""
    top = floor - SEAT * unit
    back = x - 0.15 * unit * facing
    canvas.limb([(back, floor - 0.05 * unit), (back - 0.05 * unit * facing, floor - 0.56 * unit)],
                [0.07 * unit, 0.06 * unit], shade(color, 0.8))  # fmt: skip
    _span(canvas, x - 0.16 * unit * facing, x + 0.22 * unit * facing, top + 0.06 * unit,
          floor - 0.03 * unit, color)  # fmt: skip
    for leg in (-0.12, 0.18):
        _span(canvas, x + (leg - 0.02) * unit * facing, x + (leg + 0.02) * unit * facing,
              floor - 0.03 * unit, floor, (50, 40, 34))  # fmt: skip


def sofa_front(canvas: Canvas, x: float, floor: float, unit: float, color: Color) -> None:
    """A sofa that faces the camera."""
    w = 0.42 * unit
    canvas.rect(x - w, floor - 0.58 * unit, x + w, floor - 0.1 * unit, shade(color, 0.85))
    canvas.rect(x - w, floor - SEAT * unit + 0.04 * unit, x + w, floor - 0.04 * unit, color)
    for side in (-1, 1):
        _span(canvas, x + side * w, x + side * (w + 0.1 * unit), floor - 0.4 * unit,
              floor - 0.02 * unit, shade(color, 0.72))  # fmt: skip


def sofa_back(canvas: Canvas, x: float, floor: float, unit: float, color: Color) -> None:
    """The back of a sofa that faces away."""
    w = 0.46 * unit
    canvas.rect(x - w, floor - 0.46 * unit, x + w, floor + 0.02 * unit, color)
    canvas.rect(x - w, floor - 0.46 * unit, x + w, floor - 0.40 * unit, shade(color, 1.15))


def gaming_chair(canvas: Canvas, x: float, floor: float, unit: float, facing: int,
                 color: Color) -> None:  # fmt: skip
    """A chair with a high back, seen from the side."""
    back = x - 0.12 * unit * facing
    canvas.limb([(back, floor - 0.24 * unit), (back - 0.07 * unit * facing, floor - 0.72 * unit)],
                [0.045 * unit, 0.045 * unit], color)  # fmt: skip
    canvas.limb([(back, floor - 0.22 * unit), (x + 0.15 * unit * facing, floor - 0.22 * unit)],
                [0.035 * unit] * 2, shade(color, 0.8))  # fmt: skip
    canvas.limb([(x, floor - 0.2 * unit), (x, floor - 0.04 * unit)], [0.018 * unit] * 2,
                (60, 60, 66))  # fmt: skip
    canvas.limb([(x - 0.13 * unit, floor - 0.02 * unit), (x + 0.13 * unit, floor - 0.02 * unit)],
                [0.02 * unit] * 2, (60, 60, 66))  # fmt: skip


def chair_back(canvas: Canvas, x: float, floor: float, unit: float, color: Color) -> None:
    """The high back of a chair that faces away."""
    canvas.limb([(x, floor - 0.42 * unit), (x, floor - 0.24 * unit)], [0.12 * unit, 0.13 * unit],
                color)  # fmt: skip
    canvas.limb([(x, floor - 0.12 * unit), (x, floor - 0.02 * unit)], [0.02 * unit] * 2,
                (60, 60, 66))  # fmt: skip


def desk(canvas: Canvas, x0: float, x1: float, floor: float, unit: float, color: Color) -> None:
    """A desk between x0 and x1."""
    x0, x1 = min(x0, x1), max(x0, x1)
    top = floor - 0.42 * unit
    for leg in (x0 + 0.03 * unit, x1 - 0.03 * unit):
        canvas.rect(leg - 0.02 * unit, top, leg + 0.02 * unit, floor, shade(color, 0.7))
    canvas.rect(x0, top, x1, top + 0.04 * unit, color)


def side_table(canvas: Canvas, x: float, floor: float, unit: float, color: Color) -> Point:
    """A low table; returns the middle of its top."""
    top = floor - 0.24 * unit
    canvas.rect(x - 0.015 * unit, top, x + 0.015 * unit, floor - 0.02 * unit, shade(color, 0.7))
    canvas.disc((x, floor - 0.015 * unit), 0.08 * unit, shade(color, 0.7), squash=0.25)
    canvas.disc((x, top), 0.15 * unit, color, squash=0.3)
    return x, top


def tv_stand(canvas: Canvas, quad: Quad, floor: float, unit: float, color: Color) -> None:
    """A cabinet below a screen, and the screen's frame; the screen itself is not drawn."""
    xs = [p[0] for p in quad]
    foot = max(quad[2][1], quad[3][1])
    middle = (min(xs) + max(xs)) / 2
    canvas.rect(min(xs) - 0.04 * unit, floor - 0.2 * unit, max(xs) + 0.04 * unit, floor, color)
    canvas.rect(middle - 0.03 * unit, foot, middle + 0.03 * unit, floor - 0.2 * unit, (36, 36, 40))
    frame(canvas, quad, 0.02 * unit)


def frame(canvas: Canvas, quad: Quad, width: float) -> None:
    """The dark frame of a screen."""
    canvas.polygon(list(grown(quad, width)), (22, 22, 26))


def monitor(canvas: Canvas, quad: Quad, top: float, unit: float) -> None:
    """A monitor's foot and frame, standing on a desk whose top is at `top`."""
    middle = sum(p[0] for p in quad) / 4
    foot = max(quad[2][1], quad[3][1])
    canvas.rect(middle - 0.02 * unit, foot, middle + 0.02 * unit, top, (40, 40, 46))
    canvas.rect(middle - 0.08 * unit, top - 0.015 * unit, middle + 0.08 * unit, top, (40, 40, 46))
    frame(canvas, quad, 0.014 * unit)


def _span(canvas: Canvas, xa: float, xb: float, y0: float, y1: float, color: Color) -> None:
    canvas.rect(min(xa, xb), y0, max(xa, xb), y1, color)
