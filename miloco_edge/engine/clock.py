"""What is left of a budget's seconds, which count from when the work was handed over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from miloco_edge.types import Budget

_LEAST_S = 1e-6
"""A budget's seconds when none are left: the stage begins, finds that, and says so."""


class Clock:
    """A budget whose seconds run, from now or from when they `began`."""

    def __init__(
        self,
        budget: Budget | None,
        began: float | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget, self._now = budget or Budget(), now
        seconds = self._budget.seconds
        self._end = None if seconds is None else seconds + (now() if began is None else began)

    def left(self) -> Budget:
        """The budget with the seconds that are left now."""
        if self._end is None:
            return self._budget
        return replace(self._budget, seconds=max(self._end - self._now(), _LEAST_S))
