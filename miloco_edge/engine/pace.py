"""How a machine does beside its rates, learned while it works."""

from __future__ import annotations

import math
from typing import get_args

from miloco_edge.engine.rates import Rates, Stage

_LOAD_GAIN, _BIAS_GAIN, _SPREAD_GAIN = 0.3, 0.1, 0.2
_SHORT_S = 0.01
"""What takes no longer says little: the clock and the scheduler have their share of it."""
_FORGET = 0.9
"""How long the longest of late is remembered: of the machine, what is short beside it says little
too, for a plan hardly feels how far it was off."""
_SURPRISE = math.log(4)
"""One observation counts as no further off than this."""
_LEAST_MARGIN, _MOST_MARGIN = 0.05, 0.5
_STAGES: tuple[Stage, ...] = get_args(Stage)


class Pace:
    """A running ratio of actual to predicted seconds, and its spread. Used by one thread.

    Logarithms of ratios are averaged with exponentially falling weights. What all stages have in
    common (another process takes a core, the CPU is hot) is learned quickly and from every stage;
    what is one stage's own (a rate that was measured badly) slowly, but for the first few times.
    """

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        """As they were measured."""
        self._load = 0.0
        self._bias: dict[Stage, float] = dict.fromkeys(_STAGES, 0.0)
        self._seen: dict[Stage, int] = dict.fromkeys(_STAGES, 0)
        self._variance = 0.05**2
        self._longest_s = 0.0

    def now(self) -> Rates:
        """The rates as the machine is now."""
        return self.rates.scaled({s: math.exp(self._load + self._bias[s]) for s in _STAGES})

    @property
    def ratio(self) -> float:
        """Actual to predicted seconds that all stages have in common; 2 on a machine half taken."""
        return math.exp(self._load)

    @property
    def margin(self) -> float:
        """So many times its prediction something may take: two standard deviations."""
        return math.exp(min(max(2 * math.sqrt(self._variance), _LEAST_MARGIN), _MOST_MARGIN))

    def observe(self, stage: Stage, predicted_s: float, actual_s: float) -> None:
        """Something took so long; `predicted_s` is by `now()`, before it began."""
        if predicted_s <= 0 or actual_s <= 0:
            return
        off = min(max(math.log(actual_s / predicted_s), -_SURPRISE), _SURPRISE)
        self._longest_s = max(_FORGET * self._longest_s, predicted_s)
        alone = predicted_s / (predicted_s + _SHORT_S)
        weight = alone * predicted_s / self._longest_s
        self._load += weight * _LOAD_GAIN * off
        self._seen[stage] += 1
        self._bias[stage] += alone * max(_BIAS_GAIN, 1 / (self._seen[stage] + 1)) * off
        self._variance += weight * _SPREAD_GAIN * (off**2 - self._variance)
