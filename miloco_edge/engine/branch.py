"""Many suffixes on one scene: what they have in common is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miloco_edge.llama import Context, Run

Tokens = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Branch:
    """A suffix and the sequence that it is decoded in."""

    sequence: int
    tokens: Tokens
    """(n,) int32, at least one."""


def share(branches: Sequence[Branch], position: int, longest: int) -> tuple[list[Run], list[int]]:
    """Runs that spell all branches from `position` on, each common beginning once.

    The sequences must hold the same up to `position`. No run is longer than `longest`. Returns the
    runs in the order in which they are to be decoded, and for each branch the run that ends it.
    """
    runs: list[Run] = []
    ends = [0] * len(branches)

    def spell(members: list[int], start: int) -> None:
        firsts: dict[int, list[int]] = {}
        for member in members:
            if len(tokens := branches[member].tokens) > start:
                firsts.setdefault(int(tokens[start]), []).append(member)
        for together in firsts.values():
            beginnings = [branches[member].tokens[start : start + longest] for member in together]
            stop = start + common(beginnings)
            sequences = tuple(branches[member].sequence for member in together)
            for member in together:
                ends[member] = len(runs)
            runs.append(Run(sequences, branches[together[0]].tokens[start:stop], position + start))
            spell(together, stop)

    spell(list(range(len(branches))), 0)
    return runs, ends


def common(suffixes: Sequence[Tokens]) -> int:
    """How many tokens at the beginning are the same in all."""
    shortest = min(len(tokens) for tokens in suffixes)
    differs = np.zeros(shortest, bool)
    for tokens in suffixes:
        differs |= tokens[:shortest] != suffixes[0][:shortest]
    return int(differs.argmax()) if differs.any() else shortest


def together(suffixes: Sequence[Tokens]) -> int:
    """Tokens of all suffixes where their common beginning is computed once."""
    if not suffixes:
        return 0
    shared = common(suffixes)
    return shared + sum(len(suffix) - shared for suffix in suffixes)


def fitting(suffixes: Sequence[Tokens], tokens: int) -> int:
    """How many of the suffixes, from the first on, are at most so many tokens; at least one.

    What all of those have in common counts once: a little more than `share` leaves.
    """
    count = 1
    while count < len(suffixes) and together(suffixes[: count + 1]) <= tokens:
        count += 1
    return count


def decode(
    context: Context, runs: Sequence[Run], tokens: int, check: Callable[[], None]
) -> Iterator[tuple[int, int]]:
    """Decode runs, each at most `tokens` long, as many together as that allows.

    Yields the number of each run and the place of its last token, which holds until the next pair
    is asked for. `check` is called before each decode and may raise. Raises as `decode_runs`.
    """
    start = 0
    while start < len(runs):
        stop, total = start + 1, len(runs[start].tokens)
        while stop < len(runs) and total + len(runs[stop].tokens) <= tokens:
            total += len(runs[stop].tokens)
            stop += 1
        check()
        yield from zip(range(start, stop), context.decode_runs(runs[start:stop]), strict=True)
        start = stop
