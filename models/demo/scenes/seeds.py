"""Which seed belongs to which split, and the random numbers that follow from it.

A seed says its split, so no seed can be drawn in two of them. Choices come from Python's Mersenne
twister through `random()` alone, the one stream whose values are promised to stay
(docs.python.org, random, "Notes on Reproducibility"); noise comes from PCG64's raw output.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

SEEDS: dict[str, range] = {
    "train": range(1_000_000_000),
    "validation": range(1_000_000_000, 1_100_000_000),
    "test": range(1_100_000_000, 1_200_000_000),
    "style": range(1_200_000_000, 1_300_000_000),
}
"""Seeds of each split; "style" is a test in a drawing style that no other split uses."""


def split_of(seed: int) -> str:
    """The split that a seed belongs to. Raises ValueError for a seed of none."""
    for split, seeds in SEEDS.items():
        if seed in seeds:
            return split
    raise ValueError(f"seed: expected one of {SEEDS}, got {seed}")


class Dice:
    """Random choices that are the same on every machine and Python."""

    def __init__(self, *key: int | str) -> None:
        self._random = random.Random(":".join(map(str, key)))

    def uniform(self, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        return low + (high - low) * self._random.random()

    def below(self, count: int) -> int:
        """A whole number from 0 to `count` - 1."""
        return int(self._random.random() * count)

    def chance(self, probability: float) -> bool:
        """True so often."""
        return self._random.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[self.below(len(options))]

    def weighted(self, options: dict[T, float]) -> T:
        """One of the keys, as often as its weight says."""
        left = self._random.random() * sum(options.values())
        for option, weight in options.items():
            left -= weight
            if left < 0:
                return option
        return option

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different ones of `options`, in random order."""
        rest = list(options)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]

    def sign(self) -> int:
        """-1 or 1."""
        return 1 if self.chance(0.5) else -1
