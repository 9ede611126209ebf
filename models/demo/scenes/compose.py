"""What a clip is about: its people or hand, chosen from a seed."""

from __future__ import annotations

import math
from dataclasses import replace

from models.demo.scenes import stations, styles
from models.demo.scenes.capture import Camera
from models.demo.scenes.categories import ACTIVITIES, GESTURES, NEAR_MISSES, RESEMBLES
from models.demo.scenes.gestures import HandActor
from models.demo.scenes.people import CLOTHES, SKINS, Look
from models.demo.scenes.rooms import WOODS, Room, roll_room
from models.demo.scenes.seeds import Dice, split_of
from models.demo.scenes.stations import ABSENT, PersonActor
from models.demo.scenes.timing import Timing, roll_span, roll_timing
from models.demo.scenes.truth import Actor, Plan

_CLIPS = {"one": 5.0, "two": 3.0, "gesture": 5.0, "two_hands": 0.8, "unused": 0.7, "empty": 0.3}
_STATES = {"whole": 5.0, "event": 3.0, "never": 3.5}
"""At it all the time, for a while, or not at all."""

LEAST_CONTRAST = 28.0
"""Between a hand and the room, in levels of grey."""


def plan(seed: int) -> Plan:
    """The plan of a clip. Raises ValueError for a seed of no split."""
    split = split_of(seed)
    dice = Dice(seed, "plan")
    timing = roll_timing(dice)
    width, height = timing.size
    aspect = width / height
    kind = dice.weighted(_CLIPS)
    if kind in ("two", "two_hands") and aspect < 1.24:
        kind = {"two": "one", "two_hands": "gesture"}[kind]
    actors: tuple[Actor, ...]
    if kind in ("one", "unused"):
        actors = (_person(dice, timing, 0, width, absent=kind == "unused"),)
    elif kind == "two":
        half = width // 2
        first, second = dice.sample(ACTIVITIES, 2)
        actors = (
            _person(dice, timing, 0, half, category=first),
            _person(dice, timing, half, width, category=second),
        )
    elif kind == "gesture":
        actors = (_hand(dice, timing, dice.uniform(0.3, 0.7)),)
    elif kind == "two_hands":
        first, second = dice.sample(GESTURES, 2)
        actors = (
            _hand(dice, timing, 0.27, category=first, mirror=1),
            _hand(dice, timing, 0.73, category=second, mirror=-1),
        )
    else:
        actors = ()
    screens = any(isinstance(a, PersonActor) and a.screen for a in actors)
    props = kind == "empty" or (kind == "gesture" and dice.chance(0.2))
    room = roll_room(dice, aspect, props=props, tv=kind != "two" and not screens)
    name = styles.HELD_OUT if split == "style" else dice.pick(styles.TRAINING)
    actors = tuple(_seen(a, room) if isinstance(a, HandActor) else a for a in actors)
    return Plan(
        seed, split, timing.size, timing.source_fps, timing.count, timing.indices, timing.fps,
        styles.choose(dice, name), room, Camera.roll(dice), actors,
    )  # fmt: skip


def _span(dice: Dice, timing: Timing) -> tuple[str, float, float]:
    state = dice.weighted(_STATES)
    if state == "never":
        return state, 0.0, 0.0
    if state == "whole":
        return state, 0.0, timing.seconds
    return state, *roll_span(dice, timing.seconds)


def _person(
    dice: Dice,
    timing: Timing,
    left: int,
    right: int,
    *,
    category: str = "",
    absent: bool = False,
) -> PersonActor:
    """Someone between `left` and `right`, as large as the picture allows or somewhat smaller."""
    height = timing.size[1]
    category = category or dice.pick(ACTIVITIES)
    setting = dice.pick(stations.SETTINGS[category])
    state, start, end = ("never", 0.0, 0.0) if absent else _span(dice, timing)
    idle = ABSENT if absent else dice.weighted(stations.IDLE[category])
    if state == "event" and category in ("watch_tv", "workout"):
        idle = {"watch_tv": "screen_off", "workout": "still"}[category]
    back, ahead = stations.extent(category, setting)
    floor = height * dice.uniform(0.9, 0.97)
    most = min(
        (right - left) * 0.97 / (back + ahead), floor * 0.98 / stations.height(category, setting)
    )
    unit = min(most, height * 1.0) * dice.uniform(0.84, 1.0)
    facing = dice.sign()
    before, after = (back, ahead) if facing > 0 else (ahead, back)
    x = dice.uniform(left + before * unit, right - after * unit)
    period, offset, held = _rhythm(dice, timing)
    if state == "event":
        held = _apart(timing, period, offset, start, end)
    return PersonActor(
        category, setting, idle, start, end, Look.roll(dice), x, floor, unit, facing,
        dice.pick(CLOTHES), dice.pick(WOODS), dice.pick(CLOTHES), dice.below(24),
        _beside(dice, category),
        period, offset, held,
    )  # fmt: skip


def _seen(hand: HandActor, room: Room) -> HandActor:
    """The hand, in another skin where its own is as bright as what lies behind it.

    A style without outlines, seen by infrared, would show nothing.
    """

    def contrast(skin: styles.Color) -> float:
        return min(abs(styles.luma(skin) - styles.luma(back)) for back in (room.wall, room.floor))

    if contrast(hand.skin) >= LEAST_CONTRAST:
        return hand
    return replace(hand, skin=max(SKINS, key=contrast))


def _beside(dice: Dice, category: str) -> str:
    """What lies on the table for no one's use."""
    if category not in ("reading", "phone"):
        return ""
    other = "phone" if category == "reading" else "book"
    return dice.weighted({"": 1, "cup": 1, other: 2})


def _rhythm(dice: Dice, timing: Timing) -> tuple[float, float, float]:
    """A movement that differs plainly between neighbouring samples: period, start, and a rest.

    Half a period takes about the time between two frames, and the first of them is near one of
    the movement's ends. The rest is where the movement is in some frame, so that one frame of it
    cannot be told from one at rest.
    """
    step = 1 / timing.fps
    period = step * dice.uniform(1.7, 2.4)
    offset = dice.uniform(-0.1, 0.1) + 0.5 * dice.below(2)
    return period, offset, offset + dice.below(len(timing.indices)) * step / period


def _apart(timing: Timing, period: float, offset: float, start: float, end: float) -> float:
    """A rest that is far from the first and the last frame of the movement: both can be seen."""
    turns = [offset + i / timing.source_fps / period for i in timing.indices]
    inside = [
        turn
        for turn, i in zip(turns, timing.indices, strict=True)
        if start <= i / timing.source_fps < end
    ]

    def difference(rest: float) -> float:
        ends = (inside[0], inside[-1])
        return min(abs(math.cos(math.tau * rest) - math.cos(math.tau * turn)) for turn in ends)

    return max([*turns, offset + 0.25], key=difference)


def _hand(
    dice: Dice,
    timing: Timing,
    middle: float,
    *,
    category: str = "",
    mirror: int = 0,
) -> HandActor:
    """A hand around `middle` of the picture's width; one of two where `category` is given."""
    width, height = timing.size
    state, start, end = _span(dice, timing)
    scale = 0.8 if category else 1.0
    category = category or dice.pick(GESTURES)
    near = [shape for shape in NEAR_MISSES if category in RESEMBLES[shape]]
    other = dice.weighted({shape: 1.0 for shape in near} | {"fist": 0.5, "": 0.7})
    if state == "never":
        other = other or dice.pick(near)
    size = dice.uniform(0.23, 0.3) * min(height, width * 0.95) * scale
    sideways = "thumbs" in category or "thumbs" in other
    moves = category == "open_palm" and dice.chance(0.8)
    waves = moves and dice.chance(0.5)
    period, offset, held = _rhythm(dice, timing)
    return HandActor(
        category if state != "never" else None, other, start, end, dice.pick(SKINS),
        dice.pick(CLOTHES), width * middle + (0.2 * size if sideways else 0),
        height * dice.uniform(0.84, 0.93) + (-0.1 * height if sideways else 0.0), size,
        dice.uniform(-8, 8) if moves else dice.uniform(-22, 22), mirror or dice.sign(),
        dice.uniform(0.85, 1.2), waves, dice.uniform(20, 28) if moves else 0.0, period,
        (offset if waves else held) + 0.25,
    )  # fmt: skip
