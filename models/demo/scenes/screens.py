"""What screens show: a programme, a game, a document, or nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.demo.scenes.canvas import Canvas, Point, part
from models.demo.scenes.styles import Color, mix

Quad = tuple[Point, Point, Point, Point]
"""Corners from the upper left, clockwise."""

PROGRAMMES = ("landscape", "news", "pitch", "cartoon")


class Screen:
    """A flat screen in perspective: places on it go from 0 to 1, right and down."""

    def __init__(self, canvas: Canvas, quad: Quad) -> None:
        self.canvas, self.quad = canvas, quad
        self.height = abs(quad[3][1] - quad[0][1])

    def at(self, u: float, v: float) -> Point:
        """A place on the screen, on the picture."""
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = self.quad
        top = ax + (bx - ax) * u, ay + (by - ay) * u
        low = dx + (cx - dx) * u, dy + (cy - dy) * u
        return top[0] + (low[0] - top[0]) * v, top[1] + (low[1] - top[1]) * v

    def area(self, corners: Sequence[Point], color: Color) -> None:
        """A polygon of one colour."""
        self.canvas.polygon([self.at(u, v) for u, v in corners], color, line=False)

    def block(self, u0: float, v0: float, u1: float, v1: float, color: Color) -> None:
        """A rectangle of one colour, cut at the edges."""
        u0, u1 = max(0.0, u0), min(1.0, u1)
        v0, v1 = max(0.0, v0), min(1.0, v1)
        if u0 < u1 and v0 < v1:
            self.area([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], color)

    def round(self, u: float, v: float, radius: float, color: Color) -> None:
        """A disc; `radius` in screen heights."""
        self.canvas.disc(self.at(u, v), radius * self.height, color, line=False)


def grown(quad: Quad, by: float) -> Quad:
    """The quad with a border around it, in pixels."""
    sides = 1 if quad[1][0] > quad[0][0] else -1
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    moved = [(x + sx * by * sides, y + sy * by)
             for (x, y), (sx, sy) in zip(quad, signs, strict=True)]  # fmt: skip
    return moved[0], moved[1], moved[2], moved[3]


@part("screen_off")
def draw_off(canvas: Canvas, quad: Quad) -> None:
    """A dark screen with a reflection."""
    screen = Screen(canvas, quad)
    screen.block(0, 0, 1, 1, (30, 32, 38))
    screen.area([(0.1, 0), (0.28, 0), (0.12, 1), (0, 1), (0, 0.6)], (50, 53, 62))


@part("programme")
def draw_programme(canvas: Canvas, quad: Quad, kind: str, t: float) -> None:
    """A television programme at `t` seconds."""
    screen = Screen(canvas, quad)
    if kind == "landscape":
        screen.block(0, 0, 1, 1, (110, 190, 250))
        screen.round(0.2 + 0.5 * _swing(t, 3.0), 0.28, 0.13, (255, 226, 90))
        shift = 0.3 * _swing(t, 4.0)
        screen.area([(0, 1), (0, 0.65), (0.3 + shift, 0.42), (0.75, 0.7), (1, 0.55), (1, 1)],
                    (70, 170, 80))  # fmt: skip
    elif kind == "news":
        screen.block(0, 0, 1, 1, (40, 90, 190))
        screen.block(0.58, 0.12, 0.94, 0.55, mix((240, 240, 250), (230, 120, 90), _swing(t, 1.1)))
        screen.area([(0.12, 1), (0.2, 0.62), (0.42, 0.62), (0.5, 1)], (50, 50, 70))
        screen.round(0.31 + 0.02 * _swing(t, 0.9), 0.42, 0.16, (240, 200, 165))
        screen.block(0, 0.82, 1, 0.96, (220, 50, 50))
    elif kind == "pitch":
        screen.block(0, 0, 1, 1, (60, 170, 70))
        screen.block(0.49, 0, 0.52, 1, (225, 245, 225))
        for i in range(5):
            x = 0.12 + 0.19 * i + 0.08 * math.sin(t * 3 + i * 2)
            screen.block(x - 0.025, 0.3 + 0.1 * (i % 3), x + 0.03, 0.52 + 0.1 * (i % 3),
                         (235, 60, 60) if i % 2 else (250, 250, 250))  # fmt: skip
        screen.round(0.2 + 0.6 * _swing(t, 1.7), 0.6, 0.045, (255, 255, 255))
    else:
        screen.block(0, 0, 1, 1, (255, 205, 110))
        screen.round(0.3 + 0.4 * _swing(t, 1.6), 0.5 - 0.15 * _swing(t, 0.8), 0.24, (250, 110, 150))
        for side in (-0.06, 0.06):
            screen.round(0.3 + 0.4 * _swing(t, 1.6) + side, 0.45 - 0.15 * _swing(t, 0.8), 0.05,
                         (20, 20, 30))  # fmt: skip
        screen.block(0, 0.84, 1, 1, (110, 80, 200))


@part("game")
def draw_game(canvas: Canvas, quad: Quad, t: float, hue: int) -> None:
    """A shooter: a corridor, opponents, a cross-hair, bars and a map."""
    screen = Screen(canvas, quad)
    ground = ((34, 22, 58), (18, 44, 60), (60, 24, 26))[hue % 3]
    screen.block(0, 0, 1, 1, ground)
    bright = ((190, 70, 255), (40, 220, 255), (255, 120, 40))[hue % 3]
    lean = 0.12 * math.sin(t * 2.6)
    far = mix(ground, bright, 0.35)
    screen.area([(0, 1), (0.38 + lean, 0.55), (0.62 + lean, 0.55), (1, 1)], far)
    screen.area([(0, 0), (0.38 + lean, 0.4), (0.62 + lean, 0.4), (1, 0)], mix(ground, bright, 0.15))
    for i in range(2):
        x = 0.5 + 0.32 * math.sin(t * (3.1 + i) + 2 * i)
        screen.block(x - 0.05, 0.36, x + 0.05, 0.66, (240, 60, 60))
        screen.round(x, 0.32, 0.07, (240, 60, 60))
    white = (245, 255, 245)
    screen.block(0.42, 0.485, 0.58, 0.515, white)
    screen.block(0.49, 0.38, 0.51, 0.62, white)
    screen.block(0.03, 0.9, 0.10 + 0.25 * _swing(t, 2.3), 0.97, (60, 230, 90))
    screen.block(0.8, 0.05, 0.96, 0.27, (30, 110, 60))
    screen.round(0.84 + 0.08 * _swing(t, 1.3), 0.16, 0.035, (255, 240, 80))
    if math.sin(t * 9) > 0.2:
        screen.round(0.64, 0.8, 0.1, (255, 220, 90))
    screen.area([(0.66, 1), (0.6, 0.78), (0.68, 0.76), (0.82, 1)], (90, 94, 104))


@part("document")
def draw_document(canvas: Canvas, quad: Quad, lines: int) -> None:
    """A white page of text."""
    screen = Screen(canvas, quad)
    screen.block(0, 0, 1, 1, (205, 210, 218))
    screen.block(0.2, 0.06, 0.8, 1, (252, 252, 252))
    for i in range(6):
        screen.block(0.27, 0.15 + 0.13 * i, 0.72 - 0.09 * ((i * lines) % 4), 0.19 + 0.13 * i,
                     (120, 124, 134))  # fmt: skip


def _swing(t: float, period: float) -> float:
    """0 to 1 and back in `period` seconds."""
    return 0.5 - 0.5 * math.cos(math.tau * t / period)
