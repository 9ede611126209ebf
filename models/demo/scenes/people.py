"""Bodies: what a person looks like, and how a pose is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from models.demo.scenes.canvas import Canvas, Point, part
from models.demo.scenes.poses import HEAD, Pose
from models.demo.scenes.seeds import Dice
from models.demo.scenes.styles import Color, shade

SKINS = ((255, 219, 186), (240, 194, 154), (214, 160, 118), (172, 118, 80), (122, 80, 54))
HAIR = ((36, 28, 26), (78, 48, 28), (128, 84, 40), (206, 168, 92), (150, 150, 155), (150, 54, 30))
CLOTHES = (
    (196, 52, 52), (52, 98, 190), (46, 140, 86), (228, 170, 46), (130, 72, 160), (226, 120, 60),
    (70, 74, 84), (224, 224, 228), (60, 160, 170), (210, 100, 140), (110, 84, 60), (36, 50, 92),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Colours and build of a person."""

    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    long_hair: bool
    long_sleeves: bool
    girth: float

    @classmethod
    def roll(cls, dice: Dice) -> Look:
        """Anyone."""
        shirt, trousers, shoes = dice.sample(CLOTHES, 3)
        return cls(
            dice.pick(SKINS), dice.pick(HAIR), shirt, trousers, shade(shoes, 0.7),
            dice.chance(0.4), dice.chance(0.5), dice.uniform(0.9, 1.15),
        )  # fmt: skip


@dataclass(frozen=True)
class Stance:
    """Where the hips are on the picture, pixels per body height, and which way is ahead."""

    x: float
    y: float
    unit: float
    facing: int

    def at(self, point: Point) -> Point:
        """A point of a pose, on the picture."""
        return self.x + point[0] * self.unit * self.facing, self.y + point[1] * self.unit


Hold = Callable[[Canvas, Stance, Pose], None]
"""Draws what the hands hold."""


def draw_person(
    canvas: Canvas,
    look: Look,
    pose: Pose,
    stance: Stance,
    hold: Hold | None = None,
    *,
    headset: bool = False,
) -> None:
    """A whole person; what they hold lies under the nearer hand, or before them."""
    if pose.view == "side":
        _arm(canvas, look, pose, stance, 1)
        _leg(canvas, look, pose, stance, 1)
        _leg(canvas, look, pose, stance, 0)
        _torso(canvas, look, pose, stance)
        _head(canvas, look, pose, stance, headset)
        if hold:
            hold(canvas, stance, pose)
        _arm(canvas, look, pose, stance, 0)
    elif pose.view == "front":
        for i in (0, 1):
            _leg(canvas, look, pose, stance, i)
        _torso(canvas, look, pose, stance)
        _head(canvas, look, pose, stance, headset)
        for i in (0, 1):
            _arm(canvas, look, pose, stance, i)
        if hold:
            hold(canvas, stance, pose)
            with canvas.part("arm"):
                for hand in pose.hands:
                    canvas.disc(stance.at(hand), 0.03 * stance.unit, look.skin)
    else:
        if hold:
            hold(canvas, stance, pose)
        for i in (0, 1):
            _arm(canvas, look, pose, stance, i)
        _torso(canvas, look, pose, stance)
        _head(canvas, look, pose, stance, headset)


@part("arm")
def _arm(canvas: Canvas, look: Look, pose: Pose, stance: Stance, i: int) -> None:
    dim = 0.82 if i and pose.view == "side" else 1.0
    u = stance.unit
    shoulder, elbow, hand = (
        stance.at(p) for p in (pose.shoulders[i], pose.elbows[i], pose.hands[i])
    )
    sleeve = shade(look.shirt, 0.88 * dim)
    skin = shade(look.skin, dim)
    r = 0.036 * u * look.girth
    if look.long_sleeves:
        canvas.limb([shoulder, elbow, hand], [r, r * 0.9, r * 0.75], sleeve)
    else:
        middle = ((shoulder[0] * 0.35 + elbow[0] * 0.65), (shoulder[1] * 0.35 + elbow[1] * 0.65))
        canvas.limb([middle, elbow, hand], [r * 0.8, r * 0.8, r * 0.65], skin)
        canvas.limb([shoulder, middle], [r * 1.1, r * 1.05], sleeve)
    canvas.disc(hand, 0.032 * u, skin)


@part("leg")
def _leg(canvas: Canvas, look: Look, pose: Pose, stance: Stance, i: int) -> None:
    dim = 0.8 if i and pose.view == "side" else 1.0
    u = stance.unit
    hip, knee, foot = (stance.at(p) for p in (pose.hips[i], pose.knees[i], pose.feet[i]))
    r = 0.05 * u * look.girth
    canvas.limb([hip, knee, foot], [r * 1.1, r, r * 0.75], shade(look.trousers, dim))
    toe = 0.06 * stance.facing if pose.view == "side" else (0.025 if i == 0 else -0.025)
    canvas.limb([foot, (foot[0] + toe * u, foot[1] + 0.012 * u)], [0.034 * u] * 2,
                shade(look.shoes, dim))  # fmt: skip


@part("torso")
def _torso(canvas: Canvas, look: Look, pose: Pose, stance: Stance) -> None:
    u = stance.unit
    if pose.view == "side":
        canvas.limb([stance.at(pose.shoulders[0]), stance.at(pose.hips[0])],
                    [0.075 * u * look.girth, 0.078 * u * look.girth], look.shirt)  # fmt: skip
        return
    (a, b), (c, d) = pose.shoulders, pose.hips
    wide = 0.03 * look.girth
    corners = [(a[0] + wide, a[1] - 0.01), (a[0] - 0.03, a[1] - 0.045), (b[0] + 0.03, b[1] - 0.045),
               (b[0] - wide, b[1] - 0.01), (d[0] - wide - 0.015, d[1] + 0.05),
               (c[0] + wide + 0.015, c[1] + 0.05)]  # fmt: skip
    canvas.polygon([stance.at(p) for p in corners], look.shirt)


@part("head")
def _head(canvas: Canvas, look: Look, pose: Pose, stance: Stance, headset: bool) -> None:
    u, r = stance.unit, HEAD * stance.unit
    x, y = stance.at(pose.head)
    shoulder = stance.at(((pose.shoulders[0][0] + pose.shoulders[1][0]) / 2,
                          pose.shoulders[0][1]))  # fmt: skip
    canvas.limb([shoulder, (x, y)], [0.04 * u, 0.04 * u], shade(look.skin, 0.9))
    f = stance.facing
    if look.long_hair:
        back = -0.35 * r * f if pose.view == "side" else 0.0
        canvas.limb([(x + back, y), (x + back, y + 1.25 * r)], [r * 1.02, r * 0.8], look.hair)
    canvas.disc((x, y), r, look.hair if pose.view == "back" else look.skin)
    if pose.view == "side":
        tilt = math.radians(pose.nod * 30 + pose.heading * 0.6) * f
        nose = _turned((x, y), (r * 1.2 * f, r * 0.15), tilt)
        canvas.polygon([_turned((x, y), (r * 0.9 * f, -r * 0.15), tilt), nose,
                        _turned((x, y), (r * 0.9 * f, r * 0.35), tilt)],
                       look.skin, line=False)  # fmt: skip
        cap = [(-r * 1.08 * math.cos(a) * f, -r * 1.08 * math.sin(a))
               for a in (-0.7, -0.2, 0.3, 0.8, 1.3, 1.8, 2.3, 2.7)]  # fmt: skip
        points = [_turned((x, y), p, tilt) for p in [*cap, (r * 0.45 * f, -r * 0.45),
                                                     (-r * 0.1 * f, -r * 0.2)]]  # fmt: skip
        canvas.polygon(points, look.hair)
        canvas.disc(_turned((x, y), (r * 0.55 * f, -r * 0.05), tilt), max(0.8, r * 0.12),
                    (30, 26, 30), line=False)  # fmt: skip
    elif pose.view == "front":
        drop = r * 0.35 * pose.nod
        cap = [(-r * 1.08 * math.cos(a), -r * 1.08 * math.sin(a))
               for a in (-0.1, 0.4, 0.9, 1.4, 1.9, 2.4, 2.9, 3.24)]  # fmt: skip
        fringe = -r * 0.35 + drop * 1.2
        points = [(x + px, y + py) for px, py in [*cap, (r * 0.6, fringe), (-r * 0.6, fringe)]]
        canvas.polygon(points, look.hair)
        for side in (-1, 1):
            canvas.disc((x + side * r * 0.4, y + r * 0.05 + drop), max(0.8, r * 0.12),
                        (30, 26, 30), line=False)  # fmt: skip
        canvas.stroke([(x - r * 0.28, y + r * 0.5 + drop * 0.8),
                       (x + r * 0.28, y + r * 0.5 + drop * 0.8)], max(0.8, r * 0.12),
                      shade(look.skin, 0.55))  # fmt: skip
    if headset:
        band = [(x - r * 1.2 * math.cos(a), y - r * 1.2 * math.sin(a))
                for a in (0.1, 0.6, 1.1, 1.57, 2.0, 2.5, 3.04)]  # fmt: skip
        canvas.stroke(band, r * 0.28, (24, 24, 30))
        for side in (0,) if pose.view == "side" else (-1, 1):
            canvas.disc((x + side * r, y + r * 0.1), r * 0.38, (24, 24, 30))
            canvas.disc((x + side * r, y + r * 0.1), r * 0.18, (60, 220, 120), line=False)


def _turned(center: Point, point: Point, angle: float) -> Point:
    c, s = math.cos(angle), math.sin(angle)
    return center[0] + point[0] * c - point[1] * s, center[1] + point[0] * s + point[1] * c
