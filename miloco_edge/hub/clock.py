"""The two clocks of a hub."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """The steady clock, by which everything is measured, and the one on the wall, for people."""

    steady: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    @property
    def epoch_s(self) -> float:
        """When the steady clock stood at 0, by the clock on the wall as it is set now."""
        return self.wall() - self.steady()
