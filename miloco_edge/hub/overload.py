"""What gives way when there is more to look at than the engine can: pure, told the time.

In this order: fewer frames, smaller frames, longer intervals. Each step halves the work. Before any
of them, where windows have deadlines and would miss them, intervals are stretched, up to twice.
Every event says what was asked for and what was used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from miloco_edge.hub.foresight import Demand, stretch
from miloco_edge.types import Degraded

TOO_MUCH = 0.95
"""Work offered to the engine's time, above which one more step gives way."""
ROOM = 0.7
"""One step is taken back where twice the work would be less than this, twice in a row."""
PERIOD_S = 20.0
CALM = 20
"""So many times in a row less must be enough before intervals are stretched less."""


@dataclass(frozen=True)
class Level:
    """How far everything gives way: shares of the frames and of their pixels; longer intervals."""

    frames: float = 1.0
    size: float = 1.0
    interval: float = 1.0


LEVELS = (
    Level(),
    Level(frames=0.5),
    Level(frames=0.5, size=0.5),
    Level(frames=0.5, size=0.25),
    Level(frames=0.5, size=0.25, interval=2),
    Level(frames=0.5, size=0.25, interval=4),
    Level(frames=0.5, size=0.25, interval=8),
    Level(frames=0.5, size=0.25, interval=16),
)


@dataclass(frozen=True)
class Cost:
    """What a window of a camera is made of."""

    frames: int
    visual_tokens: int
    interval_s: float

    def at(self, level: Level) -> Cost:
        """The same, given way. Frames stay even in number, a pair at least."""
        frames = self.frames
        if level.frames < 1 and frames > 2:
            frames = max(2, round(frames * level.frames / 2) * 2)
        tokens = round(self.visual_tokens * frames / self.frames * level.size)
        return Cost(frames, max(tokens, 4), self.interval_s * level.interval)


class Overload:
    """Weighs the windows that come against the time they take. Used by one thread."""

    def __init__(self, now: float, *, slots: int = 1, period_s: float = PERIOD_S) -> None:
        self.slots, self.period_s = slots, period_s
        self.step = 0
        self.stretch = 1.0
        """Times the interval, for windows to be in time: foreseen, not found out."""
        self.load = 0.0
        """Work offered in the last period, as a share of the engine's time."""
        self._needed: deque[float] = deque(maxlen=CALM)
        self._roomy = 0
        self._window_s: float | None = None
        self._begin(now)

    @property
    def level(self) -> Level:
        """How far everything gives way now."""
        level = LEVELS[self.step]
        return replace(level, interval=max(level.interval, self.stretch))

    def foresee(self, demands: Sequence[Demand]) -> bool:
        """Stretch intervals as far as deadlines need it: whether that changed anything.

        Call it once a second. More is stretched at once, less once it has been enough for a while:
        what is predicted lies on one side of a step now and on the other then.
        """
        self._needed.append(stretch(demands, self.slots))
        before, self.stretch = self.stretch, max(self._needed)
        return self.stretch != before

    def offered(self) -> None:
        """A window came that is to be looked at."""
        self._offered += 1

    def served(self, seconds: float) -> None:
        """A window was looked at, and took so long."""
        self._served += 1
        self._served_s += seconds

    def asked(self, seconds: float) -> None:
        """A question was answered, and took so long from the windows."""
        self._asked_s += seconds

    def update(self, now: float) -> bool:
        """Give way, or take a step back: whether anything changed. Call it often."""
        elapsed = now - self._began
        if elapsed < self.period_s:
            return False
        if self._served:
            self._window_s = self._served_s / self._served
        if self._window_s is None:
            if elapsed < 4 * self.period_s or not self._offered:
                return False
            self._window_s = elapsed  # not one is through: each takes at least as long
        left = max(elapsed - self._asked_s, elapsed / 10) * self.slots
        self.load = self._offered * self._window_s / left
        before = self.step
        if self.load > TOO_MUCH:
            self.step = min(self.step + 1, len(LEVELS) - 1)
        self._roomy = self._roomy + 1 if 2 * self.load < ROOM else 0
        if self._roomy >= 2 and self.step:
            self.step -= 1
        changed = self.step != before
        if changed:
            # What windows take is another thing from now on: a guess until one is through.
            self._window_s *= 0.5 if self.step > before else 2
            self._roomy = 0
        self._begin(now)
        return changed

    def degraded(self, cost: Cost) -> Degraded | None:
        """What gave way, for every event of a camera whose windows would cost `cost`."""
        if self.level == Level():
            return None
        return Degraded("overload", _measure(cost), _measure(cost.at(self.level)))

    def _begin(self, now: float) -> None:
        self._began = now
        self._offered = self._served = 0
        self._served_s = self._asked_s = 0.0


def _measure(cost: Cost) -> dict[str, int | float]:
    return {
        "frames": cost.frames,
        "visual_tokens": cost.visual_tokens,
        "interval_s": cost.interval_s,
    }
