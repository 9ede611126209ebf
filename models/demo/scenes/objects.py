"""What people hold, or leave lying about. Sizes in pixels; `unit` is a person's height."""

from __future__ import annotations

import math

from models.demo.scenes.canvas import Canvas, Point, part
from models.demo.scenes.styles import Color, shade

PAPER = (250, 248, 240)


@part("book")
def open_book(canvas: Canvas, x: float, y: float, unit: float, cover: Color, flutter: float = 0.0,
              size: float = 1.0) -> None:  # fmt: skip
    """An open book seen from its pages' side; `flutter` 0 to 1 turns a page."""
    w, h, dip = 0.135 * unit * size, 0.17 * unit * size, 0.035 * unit * size
    edge = 0.014 * unit
    out, top, low = w + edge, y - h / 2, y + h / 2
    canvas.polygon([(x - out, top - dip), (x, top + edge), (x + out, top - dip),
                    (x + out, low - dip + edge), (x, low + 2 * edge),
                    (x - out, low - dip + edge)], cover)  # fmt: skip
    for side in (-1, 1):
        canvas.polygon([(x, y - h / 2 + edge), (x + side * w, y - h / 2 - dip),
                        (x + side * w, y + h / 2 - dip), (x, y + h / 2 + edge)], PAPER)  # fmt: skip
        for i in range(4):
            v = y - h * 0.3 + i * h * 0.2
            near, far = x + side * w * 0.18, x + side * w * 0.82
            canvas.stroke([(near, v - dip * 0.2), (far, v - dip * 0.8)],
                          max(0.8, 0.012 * unit), (130, 130, 140))  # fmt: skip
    if flutter > 0:
        tip = x + w * math.cos(math.pi * flutter)
        canvas.polygon([(x, y - h / 2 + edge), (tip, y - h / 2 - dip - 0.05 * unit),
                        (tip, y + h / 2 - dip - 0.05 * unit), (x, y + h / 2 + edge)],
                       shade(PAPER, 0.93))  # fmt: skip


@part("book")
def raised_book(canvas: Canvas, x: float, y: float, unit: float, cover: Color) -> None:
    """An open book whose covers face the camera, as when its reader does."""
    w, h, dip = 0.14 * unit, 0.19 * unit, 0.03 * unit
    for side in (-1, 1):
        canvas.polygon([(x, y - h / 2 - dip * 0.2), (x + side * w * 0.96, y - h / 2 - dip * 1.4),
                        (x + side * w * 0.96, y), (x, y)], PAPER)  # fmt: skip
        canvas.polygon([(x, y - h / 2 + dip), (x + side * w, y - h / 2),
                        (x + side * w, y + h / 2 - dip), (x, y + h / 2)],
                       shade(cover, 1.0 if side < 0 else 0.85))  # fmt: skip
        canvas.polygon([(x + side * w * 0.25, y - h * 0.12), (x + side * w * 0.75, y - h * 0.17),
                        (x + side * w * 0.75, y - h * 0.02), (x + side * w * 0.25, y + h * 0.03)],
                       shade(cover, 1.5), line=False)  # fmt: skip


@part("book")
def newspaper(canvas: Canvas, x: float, y: float, unit: float) -> None:
    """A newspaper, held open."""
    w, h = 0.19 * unit, 0.26 * unit
    for side in (-1, 1):
        canvas.polygon([(x, y - h / 2 + 0.02 * unit), (x + side * w, y - h / 2),
                        (x + side * w, y + h / 2 - 0.02 * unit), (x, y + h / 2)],
                       shade((232, 230, 222), 1.0 if side < 0 else 0.93))  # fmt: skip
        near, far = sorted((x + side * w * 0.15, x + side * w * 0.85))
        canvas.rect(near, y - h * 0.36, far, y - h * 0.28, (60, 60, 66), line=False)
        for i in range(4):
            v = y - h * 0.15 + i * h * 0.13
            canvas.stroke([(x + side * w * 0.15, v), (x + side * w * 0.85, v - 0.006 * unit)],
                          max(0.8, 0.012 * unit), (140, 140, 146))  # fmt: skip


@part("closed_book")
def closed_book(canvas: Canvas, x: float, y: float, unit: float, cover: Color) -> None:
    """A book lying on a table whose top is at `y`."""
    canvas.rect(x - 0.11 * unit, y - 0.05 * unit, x + 0.11 * unit, y, cover)
    canvas.rect(
        x - 0.09 * unit, y - 0.036 * unit, x + 0.115 * unit, y - 0.014 * unit, PAPER, line=False
    )


def phone(canvas: Canvas, x: float, y: float, unit: float, tilt: float, t: float | None,
          size: float = 1.0) -> None:  # fmt: skip
    """A phone upright in a hand, leaning by `tilt`; its screen moves at `t`, or is not seen."""
    w, h = 0.05 * unit * size, 0.09 * unit * size
    c, s = math.cos(tilt), math.sin(tilt)

    def at(px: float, py: float) -> Point:
        return x + px * c - py * s, y + px * s + py * c

    with canvas.part("phone" if t is not None else "silent_phone"):
        canvas.polygon([at(-w, -h), at(w, -h), at(w, h), at(-w, h)], (20, 20, 24))
    if t is None:
        with canvas.part("silent_phone"):
            canvas.disc(at(-w * 0.45, -h * 0.65), w * 0.28, (90, 92, 100), line=False)
        return
    i, j = w * 0.82, h * 0.85
    glow = ((150, 225, 255), (190, 255, 200), (255, 225, 170))[int(t * 2) % 3]
    v = -j + 2 * j * ((t * 0.7) % 1.0) * 0.7
    with canvas.part("phone"):
        canvas.polygon([at(-i, -j), at(i, -j), at(i, j), at(-i, j)], glow, line=False)
        canvas.polygon([at(-i, v), at(i, v), at(i, v + j * 0.5), at(-i, v + j * 0.5)],
                       (80, 120, 235), line=False)  # fmt: skip


@part("lying_phone")
def lying_phone(canvas: Canvas, x: float, y: float, unit: float, lit: bool) -> None:
    """A phone that lies flat on a table whose top is at `y`."""
    w, d = 0.085 * unit, 0.02 * unit
    for grow, color in ((1.0, (20, 20, 24)), (0.78, (150, 225, 255) if lit else (52, 55, 64))):
        i, j = w * grow, d * grow
        canvas.polygon([(x - i, y), (x - i * 0.7, y - j), (x + i, y - j), (x + i * 0.7, y + j)],
                       color, line=grow == 1.0)  # fmt: skip


@part("cup")
def cup(canvas: Canvas, x: float, y: float, unit: float, color: Color) -> None:
    """A mug whose foot is at `y`."""
    canvas.disc((x + 0.035 * unit, y - 0.04 * unit), 0.025 * unit, shade(color, 0.8))
    canvas.rect(x - 0.035 * unit, y - 0.08 * unit, x + 0.035 * unit, y, color)


@part("dumbbell")
def dumbbell(canvas: Canvas, x: float, y: float, unit: float) -> None:
    """A dumbbell across a hand."""
    canvas.stroke([(x - 0.07 * unit, y), (x + 0.07 * unit, y)], 0.022 * unit, (150, 150, 156))
    for side in (-1, 1):
        end, half = x + side * 0.065 * unit, 0.032 * unit
        canvas.limb([(end, y - half), (end, y + half)], [0.024 * unit] * 2, (36, 36, 42))


def mat(canvas: Canvas, x: float, floor: float, unit: float, color: Color) -> None:
    """An exercise mat on the floor."""
    canvas.polygon([(x - 0.48 * unit, floor + 0.05 * unit), (x - 0.38 * unit, floor - 0.04 * unit),
                    (x + 0.48 * unit, floor - 0.04 * unit), (x + 0.38 * unit, floor + 0.05 * unit)],
                   color)  # fmt: skip


def keyboard(canvas: Canvas, x: float, top: float, unit: float, lit: Color) -> None:
    """A keyboard on a desk whose top is at `top`, seen from its side."""
    canvas.rect(x - 0.09 * unit, top - 0.024 * unit, x + 0.09 * unit, top, (34, 34, 40))
    canvas.rect(
        x - 0.08 * unit, top - 0.03 * unit, x + 0.08 * unit, top - 0.02 * unit, lit, line=False
    )


def tower(canvas: Canvas, x: float, floor: float, unit: float, lit: Color) -> None:
    """A gaming computer with a lit fan."""
    canvas.rect(x - 0.07 * unit, floor - 0.3 * unit, x + 0.07 * unit, floor, (30, 30, 36))
    canvas.disc((x, floor - 0.2 * unit), 0.045 * unit, lit, line=False)
    canvas.disc((x, floor - 0.2 * unit), 0.022 * unit, (30, 30, 36), line=False)
