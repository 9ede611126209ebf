"""Hands seen close. The wrist is the origin, the fingers are up; lengths in palm widths."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from models.demo.scenes.canvas import Canvas, Point, part
from models.demo.scenes.styles import Color, shade

_BASES: tuple[Point, ...] = ((-0.37, -1.0), (-0.125, -1.08), (0.125, -1.05), (0.36, -0.95))
_LENGTHS = (0.86, 0.98, 0.9, 0.68)
_SPREAD = (-14.0, -4.0, 5.0, 16.0)
_R = 0.125

SIDEWAYS = ("thumbs_up", "thumbs_down")
"""Shapes whose forearm comes from the side."""

# Which of index, middle, ring and little finger stand up, and what the thumb does.
_FRONT: dict[str, tuple[str, str]] = {
    "open_palm": ("1111", "out"),
    "four": ("1111", "in"),
    "three": ("1110", "in"),
    "v_sign": ("1100", "in"),
    "point": ("1000", "in"),
    "pinky": ("0001", "in"),
    "horns": ("1001", "in"),
    "shaka": ("0001", "wide"),
    "gun": ("1000", "wide"),
    "fist": ("0000", "in"),
}


@dataclass(frozen=True)
class Grip:
    """Where a hand is on the picture."""

    x: float
    y: float
    """The wrist, pixels."""
    unit: float
    """Width of the palm, pixels."""
    angle: float
    """Degrees clockwise from fingers up."""
    mirror: int
    """1 has the thumb on the left, -1 on the right."""
    spread: float = 1.0

    def at(self, point: Point) -> Point:
        """A point of the hand, on the picture."""
        c, s = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        px, py = point[0] * self.mirror, point[1]
        return self.x + (px * c - py * s) * self.unit, self.y + (px * s + py * c) * self.unit


def draw_hand(canvas: Canvas, shape: str, grip: Grip, skin: Color) -> None:
    """A hand of `shape`, from the wrist on."""
    if shape in SIDEWAYS:
        _draw_thumb(canvas, _turned(grip, shape), skin)
    elif shape in ("ok", "pinch"):
        _draw_ring(canvas, grip, skin, others=shape == "ok")
    else:
        _draw_front(canvas, shape, grip, skin)


@part("forearm")
def draw_forearm(canvas: Canvas, shape: str, grip: Grip, skin: Color, sleeve: Color) -> None:
    """The forearm of a hand of `shape`, long enough to leave the picture."""
    u = grip.unit
    points = ((-0.3, -0.5), (-0.95, -0.38), (-5.0, 0.4)) if shape in SIDEWAYS else (
        (0.0, 0.05), (0.0, 0.62), (0.0, 3.0)
    )  # fmt: skip
    grip = _turned(grip, shape)
    start, middle, end = (grip.at(p) for p in points)
    canvas.limb([start, middle], [0.27 * u, 0.29 * u], skin)
    canvas.limb([middle, end], [0.36 * u, 0.5 * u], sleeve)


def _turned(grip: Grip, shape: str) -> Grip:
    """A thumb that points down is one that points up, upside down."""
    if shape != "thumbs_down":
        return grip
    y = grip.y - 1.2 * grip.unit
    return replace(grip, y=y, angle=grip.angle + 180, mirror=-grip.mirror)


def _finger(canvas: Canvas, grip: Grip, skin: Color, i: int, angle: float) -> None:
    """A stretched finger."""
    x, y = _BASES[i]
    a = math.radians(angle)
    length = _LENGTHS[i]
    middle = (x + math.sin(a) * length * 0.5, y - math.cos(a) * length * 0.5)
    tip = (x + math.sin(a) * length, y - math.cos(a) * length)
    root = (x - math.sin(a) * 0.15, y + math.cos(a) * 0.2)
    u = grip.unit
    with canvas.part(("index", "middle", "ring", "little")[i]):
        canvas.limb([grip.at(root), grip.at(middle), grip.at(tip)],
                    [_R * u * 1.02, _R * u, _R * u * 0.82], skin)  # fmt: skip


@part("folded")
def _folded(canvas: Canvas, grip: Grip, skin: Color, i: int) -> None:
    """A finger bent into the palm: its knuckle and its middle part, seen from the palm's side."""
    x, y = _BASES[i]
    u = grip.unit
    canvas.limb([grip.at((x, y - 0.02)), grip.at((x * 0.92, y + 0.38))],
                [_R * u * 1.08, _R * u * 1.02], shade(skin, 0.88))  # fmt: skip


@part("palm")
def _palm(canvas: Canvas, grip: Grip, skin: Color) -> None:
    outline = [(-0.3, 0.1), (-0.48, -0.3), (-0.52, -0.8), (-0.46, -1.04), (-0.12, -1.16),
               (0.14, -1.14), (0.42, -1.02), (0.5, -0.8), (0.46, -0.3), (0.3, 0.1)]  # fmt: skip
    canvas.polygon([grip.at(p) for p in outline], skin)


def _draw_front(canvas: Canvas, shape: str, grip: Grip, skin: Color) -> None:
    fingers, thumb = _FRONT[shape]
    u = grip.unit
    spread = grip.spread * (1.5 if shape == "v_sign" else 1.0)
    for i, up in enumerate(fingers):
        if up == "1":
            extra = {("v_sign", 0): -6.0, ("v_sign", 1): 10.0, ("shaka", 3): 22.0}.get(
                (shape, i), 0
            )
            _finger(canvas, grip, skin, i, _SPREAD[i] * spread + extra)
    if thumb == "out":
        _thumb(canvas, grip, skin, ((-0.36, -0.3), (-0.66, -0.62), (-0.86, -0.98)))
    elif thumb == "wide":
        _thumb(canvas, grip, skin, ((-0.34, -0.4), (-0.76, -0.56), (-1.12, -0.74)))
    _palm(canvas, grip, skin)
    if thumb != "in":  # the ball of the thumb joins it to the palm
        with canvas.part("palm"):
            canvas.disc(grip.at((-0.26, -0.38)), 0.22 * u, skin, line=False)
    for i, up in enumerate(fingers):
        if up == "0":
            _folded(canvas, grip, skin, i)
    if thumb == "in":
        across = ((-0.4, -0.36), (-0.3, -0.62), (0.12, -0.6))
        if shape == "four":
            across = ((-0.4, -0.3), (-0.22, -0.6), (0.16, -0.72))
        _thumb(canvas, grip, shade(skin, 0.96), across)
    elif fingers == "1111":
        with canvas.part("palm"):
            for crease in (((-0.3, -0.75), (0.3, -0.62)), ((-0.1, -0.4), (-0.32, -0.72))):
                canvas.stroke([grip.at(p) for p in crease], max(1.0, 0.035 * u), shade(skin, 0.82))


@part("thumb")
def _thumb(canvas: Canvas, grip: Grip, skin: Color, points: tuple[Point, ...]) -> None:
    u = grip.unit
    canvas.limb([grip.at(p) for p in points], [0.17 * u, 0.15 * u, 0.12 * u], skin)


def _draw_thumb(canvas: Canvas, grip: Grip, skin: Color) -> None:
    """A fist from its side, with the thumb up."""
    u = grip.unit
    with canvas.part("thumb"):
        canvas.limb([grip.at(p) for p in ((-0.12, -0.86), (-0.06, -1.3), (-0.14, -1.72))],
                    [0.19 * u, 0.165 * u, 0.14 * u], skin)  # fmt: skip
    back = ((-0.5, -0.26), (-0.5, -0.82), (-0.2, -1.02), (0.2, -1.0), (0.34, -0.8), (0.34, -0.1),
            (-0.3, -0.08))  # fmt: skip
    with canvas.part("palm"):
        canvas.polygon([grip.at(p) for p in back], skin)
    with canvas.part("folded"):
        for i in range(4):
            y = -0.88 + i * 0.235
            long = (0.44, 0.48, 0.45, 0.36)[i]
            canvas.limb([grip.at((long, y)), grip.at((0.0, y + 0.01))], [0.125 * u, 0.12 * u],
                        shade(skin, 1 - 0.09 * (i % 2)))  # fmt: skip


def _draw_ring(canvas: Canvas, grip: Grip, skin: Color, *, others: bool) -> None:
    """Thumb and index finger make a ring; the others stand up, or are folded."""
    u = grip.unit
    if others:
        for i in (1, 2, 3):
            _finger(canvas, grip, skin, i, _SPREAD[i] * grip.spread + 6)
    _palm(canvas, grip, skin)
    if not others:
        for i in (1, 2, 3):
            _folded(canvas, grip, skin, i)
    gap = 0.0 if others else 0.16
    index = ((-0.34, -0.98), (-0.6, -1.42), (-0.96, -1.36), (-1.08 - gap * 0.3, -1.06 - gap))
    thumb = ((-0.3, -0.4), (-0.66, -0.5), (-0.98, -0.72), (-1.06 - gap * 0.3, -1.0 + gap))
    with canvas.part("thumb"):
        canvas.limb([grip.at(p) for p in thumb], [0.18 * u, 0.15 * u, 0.135 * u, 0.12 * u], skin)
    with canvas.part("index"):
        canvas.limb([grip.at(p) for p in index], [0.14 * u, 0.13 * u, 0.12 * u, 0.115 * u], skin)
