"""A hand that makes a gesture before the camera, or something like it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.demo.scenes.canvas import Canvas
from models.demo.scenes.categories import RESEMBLES
from models.demo.scenes.hands import Grip, draw_forearm, draw_hand
from models.demo.scenes.styles import Color


@dataclass(frozen=True)
class HandActor:
    """A hand that shows `category` from `start_s` to `end_s`, and `other` the rest of the time."""

    category: str | None
    """A gesture, or None for a hand that only comes near one."""
    other: str
    """A shape that is no gesture, or "" while the hand is out of the picture."""
    start_s: float
    end_s: float
    skin: Color
    sleeve: Color
    x: float
    y: float
    unit: float
    angle: float
    mirror: int
    spread: float
    waves: bool
    """Whether an open palm is waved (else it may lean as a waved one does, but stays so)."""
    swing: float
    """Degrees to each side."""
    period_s: float
    offset: float
    """Where the wave begins, or stays, in its periods."""

    def active(self, t: float) -> bool:
        """Whether the gesture is made."""
        return self.start_s <= t < self.end_s

    def shape(self, t: float) -> str:
        """The hand's shape; "" if it is out of the picture."""
        return self.category if self.category and self.active(t) else self.other

    def resembles(self, seconds: float) -> set[str]:
        """Gestures that this hand comes near, in truth or in passing."""
        found: set[str] = set()
        if self.other and (self.start_s > 0 or self.end_s < seconds):
            found |= set(RESEMBLES[self.other])
        if self.category and self.end_s > self.start_s:
            found |= set(RESEMBLES[self.category])
        return found

    @property
    def needs_time(self) -> bool:
        """Whether one frame leaves open if it is waved."""
        return self.category == "open_palm" and self.swing > 0

    def lean(self, t: float) -> float:
        """Degrees from upright, clockwise."""
        turns = self.offset + (t / self.period_s if self.waves else 0.0)
        return self.angle + self.swing * math.sin(math.tau * turns)


def draw_gesture(canvas: Canvas, hand: HandActor, t: float) -> list[float] | None:
    """Draw the hand at `t`; returns the box of the hand alone, or None if it is not there."""
    shape = hand.shape(t)
    if not shape:
        return None
    grip = Grip(hand.x, hand.y, hand.unit, hand.lean(t), hand.mirror, hand.spread)
    draw_forearm(canvas, shape, grip, hand.skin, hand.sleeve)
    with canvas.tracked() as box:
        draw_hand(canvas, shape, grip, hand.skin)
    return box
