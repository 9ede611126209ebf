"""How large a clip is, how long it lasts, and when things begin and end in it."""

from __future__ import annotations

from dataclasses import dataclass

from models.demo.scenes.seeds import Dice

HALF_S = 0.5
"""Events begin and end on whole half seconds."""

_SIZES: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((10, 8), (12, 7), (8, 10), (12, 9), (9, 9), (14, 8), (12, 12), (16, 9)),
    4: ((8, 6), (7, 6), (10, 6), (10, 8), (8, 8), (9, 7), (6, 8), (12, 7), (10, 10)),
    6: ((6, 5), (7, 5), (8, 6), (8, 7), (6, 7), (9, 6), (10, 6)),
    8: ((6, 5), (7, 5), (7, 6), (8, 6), (6, 6), (5, 7), (8, 5)),
}
"""For each number of frames, sizes in visual tokens: 72 to 200 tokens a clip."""


@dataclass(frozen=True)
class Timing:
    """Size and sampling of a clip, as `Plan` has them."""

    size: tuple[int, int]
    source_fps: int
    count: int
    indices: tuple[int, ...]
    fps: int

    @property
    def seconds(self) -> float:
        """How long the clip lasts."""
        return self.count / self.source_fps


def roll_timing(dice: Dice) -> Timing:
    """A clip of 2 to 8 sampled frames, at 2 or, seldom, 4 a second.

    Sources have 2, 4 or 8 frames a second: a millisecond clock, as containers have, tells those
    exactly. One that shows 2 frames in all is sampled whole, since a file gives at least 4.
    """
    frames = dice.weighted({2: 1, 4: 3, 6: 3, 8: 3})
    columns, rows = dice.pick(_SIZES[frames])
    fps = 4 if frames in (4, 8) and dice.chance(0.12) else 2
    source = fps if frames == 2 else max(fps, dice.weighted({2: 6, 4: 3, 8: 1}))
    count = frames * source // fps
    return Timing((columns * 28, rows * 28), source, count, spread(count, frames), fps)


def spread(total: int, frames: int) -> tuple[int, ...]:
    """`frames` of `total`, evenly spread with both end points, rounding half to even."""
    return tuple(round(i * (total - 1) / (frames - 1)) for i in range(frames))


def roll_span(dice: Dice, seconds: float) -> tuple[float, float]:
    """Start and end of an event that does not last the whole clip; whole if that is too short."""
    halves = round(seconds / HALF_S)
    if halves < 2:
        return 0.0, seconds
    length = 1 + dice.below(halves - 1)
    start = dice.below(halves - length + 1)
    return start * HALF_S, (start + length) * HALF_S
