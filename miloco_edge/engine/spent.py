"""What the stages of a look took, whether or not it came to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal


@dataclass
class Spent:
    """Seconds so far."""

    vision_s: float = 0.0
    prefill_s: float = 0.0
    """The system prompt's, where it was not there already, and the visual tokens'."""

    @contextmanager
    def on(
        self, stage: Literal["vision_s", "prefill_s"], clock: Callable[[], float]
    ) -> Iterator[None]:
        """Add what the block takes, by `clock`, also where it is stopped."""
        began = clock()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + clock() - began)
