"""Draws a person at a station: what stands there, the screen, the person, what they hold."""

from __future__ import annotations

import math

from models.demo.scenes import furniture, objects, screens
from models.demo.scenes.canvas import Canvas
from models.demo.scenes.people import Stance, draw_person
from models.demo.scenes.poses import (
    EXERCISES,
    HANGING,
    LAP,
    SEAT,
    STANDING,
    Pose,
    View,
    sitting,
    standing,
)
from models.demo.scenes.screens import Quad
from models.demo.scenes.stations import ABSENT, PersonActor


def draw_set(canvas: Canvas, a: PersonActor) -> None:
    """What does not move, behind the person."""
    u, f, floor, x = a.unit, a.facing, a.floor, a.x
    if a.category == "watch_tv":
        furniture.tv_stand(canvas, _quad(a), floor, u, a.wood)
        if a.setting == "side":
            furniture.sofa_side(canvas, x, floor, u, f, a.main)
    elif a.category == "esports":
        if a.setting == "side":
            furniture.desk(canvas, x + 0.2 * u * f, x + 0.84 * u * f, floor, u, a.wood)
            objects.tower(canvas, x + 0.66 * u * f, floor, u, a.accent)
            furniture.gaming_chair(canvas, x, floor, u, f, a.main)
            objects.keyboard(canvas, x + 0.33 * u * f, floor - 0.42 * u, u, a.accent)
        else:
            furniture.desk(canvas, x - 0.5 * u, x + 0.5 * u, floor - 0.08 * u, u, a.wood)
        furniture.monitor(canvas, _quad(a), floor - (0.42 if a.setting == "side" else 0.5) * u, u)
    elif a.category == "workout":
        objects.mat(canvas, x, floor, u, a.accent)
    elif a.setting == "sofa_side":
        furniture.sofa_side(canvas, x, floor, u, f, a.main)
    elif a.setting == "sofa_front":
        furniture.sofa_front(canvas, x, floor, u, a.main)
    if a.category in ("reading", "phone"):
        where = {"sofa_side": 0.48, "sofa_front": 0.68, "stand_side": 0.44, "stand_front": 0.46}
        furniture.side_table(canvas, x + where[a.setting] * u * f, floor, u, a.wood)


def draw_live(canvas: Canvas, a: PersonActor, t: float) -> list[float] | None:
    """What moves at `t`; returns the box of the person, x0 y0 x1 y1, or None without one."""
    on = a.active(t)
    if a.screen:
        _draw_screen(canvas, a, t, on)
    _draw_table(canvas, a, on)
    if a.absent:
        _draw_empty_seat(canvas, a)
        return None
    pose, hips, facing = _pose(a, t, on)
    stance = Stance(a.x, a.floor - hips * a.unit, a.unit, facing)

    def hold(canvas: Canvas, stance: Stance, pose: Pose) -> None:
        _draw_held(canvas, a, t, on, stance, pose)

    with canvas.tracked() as box:
        headset = a.category == "esports" and (on or a.idle == "screen_off")
        draw_person(canvas, a.look, pose, stance, hold, headset=headset)
    if a.setting == "behind" and a.category == "watch_tv" and not _away(a, on):
        furniture.sofa_back(canvas, a.x, a.floor, a.unit, a.main)
        box[3] = min(box[3], a.floor - 0.46 * a.unit)
    elif a.setting == "behind" and a.category == "esports":
        furniture.chair_back(canvas, a.x, a.floor, a.unit, a.main)
    return box


def _draw_empty_seat(canvas: Canvas, a: PersonActor) -> None:
    if a.setting == "behind" and a.category == "watch_tv":
        furniture.sofa_back(canvas, a.x, a.floor, a.unit, a.main)
    elif a.setting == "behind":
        furniture.chair_back(canvas, a.x, a.floor, a.unit, a.main)


def _away(a: PersonActor, on: bool) -> bool:
    return not on and a.idle == "turned_away"


def _pose(a: PersonActor, t: float, on: bool) -> tuple[Pose, float, int]:
    """The pose, the height of the hips above the floor in body heights, and the way ahead."""
    if a.category == "workout":
        if not on and a.idle == "stands":
            return standing("front", HANGING["front"]), STANDING, a.facing
        pose, hips = next(e for e in EXERCISES if e.name == a.setting).pose(a.phase(t))
        return pose, hips, a.facing
    if _away(a, on):
        return standing("side", HANGING["side"]), STANDING, -a.facing
    view: View = "back" if a.setting == "behind" else "side" if "side" in a.setting else "front"
    seated = not a.setting.startswith("stand")
    hands, nod = (LAP if seated else HANGING)[view], 0.0
    tap = 0.012 * math.sin(t * 9)
    if a.category == "esports" and (on or a.idle == "works"):
        hands = ((0.26, 0.13 + tap), (0.30, 0.13 - tap)) if view == "side" else LAP["back"]
    elif a.category == "reading" and on:
        hands, nod = (
            {"side": ((0.23, 0.2), (0.25, 0.2)), "front": ((0.13, 0.18), (-0.13, 0.18))}[view],
            0.7,
        )
    elif a.category == "phone" and on:
        hands, nod = (
            {
                "side": ((0.2, 0.14), (0.22, 0.17 + tap)),
                "front": ((0.02, 0.2), (-0.05, 0.21 + tap)),
            }[view],
            0.8,
        )
    elif a.idle == "drinks":
        far = hands[1]
        near = {"side": (0.17, 0.0), "front": (0.09, 0.02)}[view]
        hands = (near, far)
    elif a.idle == "calls":
        near = {"side": (0.05, -0.09), "front": (0.13, -0.09)}[view]
        hands = (near, hands[1])
    pose = sitting(view, hands, nod=nod) if seated else standing(view, hands, nod=nod)
    return pose, SEAT if seated else STANDING, a.facing


def _draw_held(
    canvas: Canvas, a: PersonActor, t: float, on: bool, stance: Stance, pose: Pose
) -> None:
    u = a.unit
    (nx, ny), (fx, fy) = stance.at(pose.hands[0]), stance.at(pose.hands[1])
    f = stance.facing
    if a.category == "workout":
        exercise = next(e for e in EXERCISES if e.name == a.setting)
        if exercise.dumbbells and (on or a.idle == "still"):
            objects.dumbbell(canvas, nx, ny, u)
            objects.dumbbell(canvas, fx, fy, u)
    elif a.category == "reading" and on:
        flutter = max(0.0, math.sin(t * 1.3 + a.offset * 6) * 3 - 2)
        if a.kind % 4 == 0:
            if pose.view == "side":
                objects.newspaper(canvas, nx + 0.07 * u * f, ny - 0.08 * u, u)
            else:
                objects.newspaper(canvas, (nx + fx) / 2, ny - 0.04 * u, u)
        elif pose.view == "side":
            objects.open_book(canvas, nx + 0.08 * u * f, ny - 0.03 * u, u, a.accent, flutter)
        else:
            objects.raised_book(canvas, (nx + fx) / 2, ny - 0.04 * u, u, a.accent)
    elif a.category == "phone" and on:
        if pose.view == "side":
            objects.phone(canvas, nx + 0.03 * u * f, ny - 0.05 * u, u, 0.3 * f, t, 1.1)
        else:
            objects.phone(canvas, (nx + fx) / 2, ny - 0.05 * u, u, 0.15 * f, t, 1.1)
    elif a.idle == "drinks" and not on:
        objects.cup(canvas, nx + 0.02 * u * f, ny + 0.03 * u, u, a.main)
    elif a.idle == "calls" and not on:
        objects.phone(canvas, nx, ny - 0.03 * u, u, -0.15 * f, None, 0.9)


def _draw_table(canvas: Canvas, a: PersonActor, on: bool) -> None:
    """What lies about: always `beside`, and what the hands would hold while they do not."""
    u, f = a.unit, a.facing
    if a.category == "workout" and not on and a.idle in ("stands", ABSENT):
        for side in (-0.3, 0.3):
            objects.dumbbell(canvas, a.x + side * u, a.floor - 0.02 * u, u)
        return
    if a.category not in ("reading", "phone"):
        return
    where = {"sofa_side": 0.48, "sofa_front": 0.68, "stand_side": 0.44, "stand_front": 0.46}
    x, top = a.x + where[a.setting] * u * f, a.floor - 0.24 * u
    if a.beside == "cup":
        objects.cup(canvas, x - 0.05 * u, top, u, a.accent)
    if a.beside == "book" or (a.category == "reading" and not on):
        objects.closed_book(canvas, x, top, u, a.accent)
        top -= 0.05 * u
    if a.beside == "phone" or (a.category == "phone" and not on and a.idle != "calls"):
        objects.lying_phone(canvas, x, top, u, lit=a.kind % 2 == 0)


def _quad(a: PersonActor) -> Quad:
    """Where the screen is."""
    u, f, floor = a.unit, a.facing, a.floor
    if a.category == "watch_tv" and a.setting == "side":
        near, far = a.x + 0.56 * u * f, a.x + 0.94 * u * f
        return (
            (near, floor - 0.78 * u), (far, floor - 0.84 * u),
            (far, floor - 0.24 * u), (near, floor - 0.30 * u),
        )  # fmt: skip
    if a.category == "watch_tv":
        x = a.x + 0.1 * u * f
        return ((x - 0.42 * u, floor - 1.14 * u), (x + 0.42 * u, floor - 1.14 * u),
                (x + 0.42 * u, floor - 0.62 * u), (x - 0.42 * u, floor - 0.62 * u))  # fmt: skip
    if a.setting == "side":
        near, far = a.x + 0.48 * u * f, a.x + 0.82 * u * f
        return (
            (near, floor - 0.84 * u), (far, floor - 0.90 * u),
            (far, floor - 0.46 * u), (near, floor - 0.48 * u),
        )  # fmt: skip
    x = a.x + 0.12 * u * f
    return ((x - 0.38 * u, floor - 1.06 * u), (x + 0.38 * u, floor - 1.06 * u),
            (x + 0.38 * u, floor - 0.60 * u), (x - 0.38 * u, floor - 0.60 * u))  # fmt: skip


def _draw_screen(canvas: Canvas, a: PersonActor, t: float, on: bool) -> None:
    quad = _quad(a)
    if not a.screen_on(t):
        screens.draw_off(canvas, quad)
    elif a.category == "watch_tv":
        programmes = screens.PROGRAMMES
        screens.draw_programme(canvas, quad, programmes[a.kind % len(programmes)], t)
    elif on or a.absent:
        screens.draw_game(canvas, quad, t + a.offset * 5, a.kind)
    else:
        screens.draw_document(canvas, quad, 1 + a.kind)
