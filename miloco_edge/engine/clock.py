"""What is left of a budget's seconds, which count from when the work was handed over."""

from __future__ import annotations

import time
from dataclasses import replace

from miloco_edge.types import Budget

_LEAST_S = 1e-6
"""A budget's seconds when none are left: the stage begins, finds that, and says so."""


class Clock:
    """A budget whose seconds run."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget or Budget()
        seconds = self._budget.seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> Budget:
        """The budget with the seconds that are left now."""
        if self._end is None:
            return self._budget
        return replace(self._budget, seconds=max(self._end - time.monotonic(), _LEAST_S))
