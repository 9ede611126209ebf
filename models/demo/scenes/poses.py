"""Where a body's joints are: sitting, standing, working out. Lengths in body heights.

A pose is given by hips, lean, and where hands and feet are; elbows and knees follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from models.demo.scenes.canvas import Point

View = Literal["side", "front", "back"]

HEAD, NECK, TORSO = 0.105, 0.03, 0.29
THIGH, SHIN, ARM, FOREARM = 0.24, 0.25, 0.17, 0.17
SEAT = 0.27
"""Height of a seat above the floor."""


@dataclass(frozen=True)
class Pose:
    """Joints relative to the hips, y down, x ahead of the body (side) or to its left (front).

    Pairs are (near, far) seen from the side, (one, other) from the front.
    """

    view: View
    head: Point
    shoulders: tuple[Point, Point]
    elbows: tuple[Point, Point]
    hands: tuple[Point, Point]
    hips: tuple[Point, Point]
    knees: tuple[Point, Point]
    feet: tuple[Point, Point]
    nod: float = 0.0
    """0 looks ahead, 1 looks down."""
    heading: float = 0.0
    """Direction of the spine from hips to head, degrees from upright, ahead positive."""


def body(
    view: View,
    hands: tuple[Point, Point],
    feet: tuple[Point, Point],
    *,
    lean: float = 0.0,
    nod: float = 0.0,
    bend: tuple[float, float] = (1.0, 1.0),
) -> Pose:
    """A pose from where the hands are (relative to the neck) and the feet (relative to the hips).

    `lean` in degrees. `bend` says to which side elbows and knees point.
    """
    angle = math.radians(lean)
    neck = (math.sin(angle) * TORSO, -math.cos(angle) * TORSO)
    spread = {"side": (0.0, 0.02), "front": (0.125, 0.075), "back": (0.125, 0.075)}[view]
    if view == "side":
        shoulders = ((neck[0], neck[1] + 0.035), (neck[0] + spread[1], neck[1] + 0.035))
        hips = ((0.0, 0.0), (spread[1], 0.0))
    else:
        shoulders = ((neck[0] + spread[0], neck[1] + 0.04), (neck[0] - spread[0], neck[1] + 0.04))
        hips = ((spread[1], 0.0), (-spread[1], 0.0))
    reach = HEAD + NECK
    tip = angle + math.radians(nod * 25 if view == "side" else 0)
    head = (neck[0] + math.sin(tip) * reach, neck[1] - math.cos(tip) * reach)
    side = (1.0, 1.0) if view == "side" else (1.0, -1.0)
    elbows_hands = [
        _reach(s, (neck[0] + h[0], neck[1] + h[1]), ARM, FOREARM, bend[0] * k)
        for s, h, k in zip(shoulders, hands, side, strict=True)
    ]
    knees_feet = [
        _reach(s, f, THIGH, SHIN, -bend[1] * k) for s, f, k in zip(hips, feet, side, strict=True)
    ]
    return Pose(
        view, head, shoulders,
        (elbows_hands[0][0], elbows_hands[1][0]), (elbows_hands[0][1], elbows_hands[1][1]),
        hips,
        (knees_feet[0][0], knees_feet[1][0]), (knees_feet[0][1], knees_feet[1][1]),
        nod, lean,
    )  # fmt: skip


def _reach(
    start: Point, end: Point, upper: float, lower: float, bend: float
) -> tuple[Point, Point]:
    """Middle joint and end of a two-part limb; an end out of reach is brought within it."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(math.hypot(dx, dy), 1e-6)
    far = min(length, (upper + lower) * 0.999)
    end = (start[0] + dx / length * far, start[1] + dy / length * far)
    along = (upper**2 - lower**2 + far**2) / (2 * far)
    off = math.sqrt(max(0.0, upper**2 - along**2)) * bend
    ux, uy = dx / length, dy / length
    return (start[0] + ux * along - uy * off, start[1] + uy * along + ux * off), end


def sitting(
    view: View, hands: tuple[Point, Point], *, lean: float = -8.0, nod: float = 0.0
) -> Pose:
    """On a seat: hips SEAT above the floor."""
    if view == "side":
        feet = ((0.27, SEAT - 0.02), (0.30, SEAT - 0.02))
        return body(view, hands, feet, lean=lean, nod=nod)
    feet = ((0.10, SEAT - 0.02), (-0.10, SEAT - 0.02))
    pose = body(view, hands, feet, nod=nod)
    knees = ((0.11, 0.07), (-0.11, 0.07))  # thighs come towards the camera
    return Pose(**{**pose.__dict__, "knees": knees})


def standing(view: View, hands: tuple[Point, Point], *, nod: float = 0.0) -> Pose:
    """Upright: hips STANDING above the floor."""
    feet = ((0.04, 0.475), (-0.03, 0.475)) if view == "side" else ((0.08, 0.484), (-0.08, 0.484))
    return body(view, hands, feet, nod=nod)


STANDING = 0.49
HANGING = {
    "side": ((0.04, 0.37), (0.02, 0.37)),
    "front": ((0.18, 0.37), (-0.18, 0.37)),
    "back": ((0.18, 0.37), (-0.18, 0.37)),
}
LAP = {
    "side": ((0.20, 0.25), (0.23, 0.25)),
    "front": ((0.09, 0.26), (-0.09, 0.26)),
    "back": ((0.15, 0.25), (-0.15, 0.25)),
}


@dataclass(frozen=True)
class Exercise:
    """A movement between two poses, and how high the hips are above the floor in each."""

    name: str
    height: tuple[float, float]
    dumbbells: bool = False

    def pose(self, phase: float) -> tuple[Pose, float]:
        """The pose at `phase` 0 to 1, and the height of the hips above the floor."""
        hips = self.height[0] + (self.height[1] - self.height[0]) * phase
        return _EXERCISES[self.name](phase, hips), hips


def _squat(phase: float, hips: float) -> Pose:
    hands = ((0.06 + 0.24 * phase, 0.30 - 0.24 * phase), (0.08 + 0.24 * phase, 0.30 - 0.24 * phase))
    back = 0.17 * phase
    feet = ((back + 0.01, hips - 0.02), (back + 0.06, hips - 0.02))
    return body("side", hands, feet, lean=38 * phase)


def _jack(phase: float, hips: float) -> Pose:
    angle = math.radians(20 + 140 * phase)
    x, y = 0.125 + math.sin(angle) * 0.31, 0.04 + math.cos(angle) * 0.31
    feet = ((0.07 + 0.15 * phase, hips - 0.02), (-0.07 - 0.15 * phase, hips - 0.02))
    return body("front", ((x, y), (-x, y)), feet)


def _press(phase: float, hips: float) -> Pose:
    x, y = 0.23 - 0.06 * phase, 0.02 - 0.3 * phase
    feet = ((0.08, hips - 0.004), (-0.08, hips - 0.004))
    return body("front", ((x, y), (-x, y)), feet)


def _curl(phase: float, hips: float) -> Pose:
    x, y = 0.2 + 0.05 * math.sin(math.pi * phase), 0.35 - 0.3 * phase
    feet = ((0.08, hips - 0.004), (-0.08, hips - 0.004))
    return body("front", ((x, y), (-x, y)), feet)


def _lunge(phase: float, hips: float) -> Pose:
    feet = ((0.02 + 0.24 * phase, hips - 0.02), (-0.02 - 0.26 * phase, hips - 0.02))
    hands = ((0.05 + 0.05 * phase, 0.32 - 0.14 * phase), (0.03 + 0.05 * phase, 0.32 - 0.14 * phase))
    return body("side", hands, feet, lean=3 * phase)


_EXERCISES = {"squat": _squat, "jack": _jack, "press": _press, "curl": _curl, "lunge": _lunge}

EXERCISES = (
    Exercise("squat", (0.49, 0.27)),
    Exercise("jack", (0.49, 0.46)),
    Exercise("press", (0.49, 0.49), dumbbells=True),
    Exercise("curl", (0.49, 0.49), dumbbells=True),
    Exercise("lunge", (0.49, 0.34)),
)
