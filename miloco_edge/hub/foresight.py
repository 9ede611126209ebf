"""Whether windows will be in time at the intervals they come at: pure.

How long windows wait for one another follows from how long they take and how often they come
(Pollaczek and Khinchine's formula for one that serves in turn). Windows that come staggered wait
for less, those of cameras in which something happens at once for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STRETCHES = (1.0, 1.25, 1.5, 1.75, 2.0)
"""Times the interval. Beyond the last, frames have to give way."""
_TAIL = 3.0
"""Windows that wait longest wait so many times the mean: the 95th of 100 by an exponential."""


@dataclass(frozen=True)
class Demand:
    """What one view asks of the engine."""

    interval_s: float
    takes_s: float
    """For a whole window, nothing given up."""
    passing: float
    """Share of its windows that the gate lets through."""
    deadline_s: float | None


def stretch(demands: Sequence[Demand], slots: int = 1) -> float:
    """How many times longer intervals have to be for windows not to miss their deadlines.

    1 where nobody has a deadline, or where it is met, or cannot be met even by a window that waits
    for nobody. Where no stretch is enough, the longest.
    """
    hopeful = [d for d in demands if d.deadline_s is not None and d.takes_s <= d.deadline_s]
    if not hopeful:
        return 1.0
    return next(
        (times for times in STRETCHES[:-1] if _in_time(demands, hopeful, slots, times)),
        STRETCHES[-1],
    )


def _in_time(
    demands: Sequence[Demand], hopeful: Sequence[Demand], slots: int, times: float
) -> bool:
    rates = [d.passing / (d.interval_s * times) for d in demands]
    busy = sum(rate * d.takes_s for rate, d in zip(rates, demands, strict=True)) / slots
    if busy >= 1:
        return False
    under_way = sum(rate * d.takes_s**2 for rate, d in zip(rates, demands, strict=True)) / slots**2
    wait_s = _TAIL * under_way / (2 * (1 - busy))
    return all(d.takes_s + wait_s <= (d.deadline_s or 0.0) for d in hopeful)


def whole_s(took_s: float, asked_tokens: float | None, used_tokens: float | None) -> float:
    """What a window would have taken that was made smaller for its deadline."""
    return took_s * asked_tokens / used_tokens if asked_tokens and used_tokens else took_s
