"""Which choice for each of many items costs least loss and fits: the multiple-choice knapsack.

For a price per byte, each item's best choice is its own affair; the loss that this gives, less the
price of the budget, is a lower bound of any solution's (Lagrange). The best price follows from the
lower convex hulls of the items, whose steps are taken in the order of loss saved per byte. What is
left of the budget then is filled exactly, by dynamic programming over the choices whose reduced
cost is not above the gap between bound and best solution so far (Pisinger, "A minimal algorithm for
the multiple-choice knapsack problem", 1995; Kellerer, Pferschy, Pisinger, "Knapsack Problems",
2004, chapter 11).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quantize.errors import RecipeError

MAX_STATES = 20_000
"""Partial solutions that are kept; a few seconds for five hundred items. Beyond it, what is found
need not be the best, and the gap says by how much it may miss it."""
_ROUNDS = 4
"""A better solution leaves fewer choices to try, so that the next search may come to an end."""

_UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20,
    "GIB": 1 << 30,
}  # fmt: skip

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """A number of bytes as somebody wrote it: "4.5GiB"."""

    text: str
    nbytes: int


@dataclass(frozen=True)
class Choice:
    """One way to store an item."""

    nbytes: int
    loss: float


@dataclass(frozen=True)
class Solution:
    """A choice per item, by its index."""

    chosen: tuple[int, ...]
    nbytes: int
    loss: float
    gap: float
    """No solution has less loss than `loss` - `gap`; 0 where this one is known to be the best."""


def parse_size(text: str) -> Size:
    """Read "4.5GiB", "4500MB" or a number of bytes; RecipeError where it is none of them."""
    found = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMG]?I?B)?\s*", text, re.I | re.A)
    unit = (found[2] or "").upper() if found else "IB"
    if found is None or unit not in _UNITS or ("." in found[1] and _UNITS[unit] == 1):
        raise RecipeError(
            "fit",
            f"expected a size like 4.5GiB, 4500MB or 4831838208, got {text!r}",
            hint="give the --budget of both files together",
        )
    whole, _, fraction = found[1].partition(".")
    nbytes = int(whole + fraction) * _UNITS[unit] // 10 ** len(fraction)
    return Size(found[1] + unit.replace("IB", "iB"), nbytes)


def solve(items: Sequence[Sequence[Choice]], budget: int) -> Solution | None:
    """Choose one of every item's choices so that the sum of losses is least and bytes fit.

    None where even the smallest do not fit. Weights that must be of one type are one item, whose
    choices are their sums. The same input gives the same solution.
    """
    costs = [np.array([c.nbytes for c in item], np.int64) for item in items]
    losses = [np.array([c.loss for c in item], np.float64) for item in items]
    best, price = _along_the_hulls(costs, losses, budget)
    if best is None:
        return None
    bound, reduced = _bound(costs, losses, budget, price)
    for _ in range(_ROUNDS):
        found, proven = _refine(costs, losses, budget, price, bound, reduced, best)
        if proven or found == best:
            break
        best = found
    best, loss = found, _lost(losses, found)
    return Solution(
        tuple(best), _spent(costs, best), loss, 0.0 if proven else max(0.0, loss - bound)
    )


def _spent(costs: list[Ints], chosen: list[int]) -> int:
    return sum(int(each[i]) for each, i in zip(costs, chosen, strict=True))


def _lost(losses: list[Floats], chosen: list[int]) -> float:
    return sum(float(each[i]) for each, i in zip(losses, chosen, strict=True))


def _hull(costs: Ints, losses: Floats) -> list[int]:
    """The choices that are best at some price, from the smallest to the one of least loss."""
    hull: list[int] = []
    for i in np.lexsort((losses, costs)).tolist():
        if hull and losses[i] >= losses[hull[-1]]:
            continue
        while len(hull) > 1 and (
            (losses[hull[-2]] - losses[hull[-1]]) * (costs[i] - costs[hull[-1]])
            <= (losses[hull[-1]] - losses[i]) * (costs[hull[-1]] - costs[hull[-2]])
        ):
            hull.pop()
        hull.append(i)
    return hull


def _along_the_hulls(
    costs: list[Ints], losses: list[Floats], budget: int
) -> tuple[list[int] | None, float]:
    """Take the hulls' steps in the order of loss saved per byte, as long as they fit.

    The solution, None where there is none, and the price at which the first step did not fit.
    """
    hulls = [_hull(c, v) for c, v in zip(costs, losses, strict=True)]
    chosen = [hull[0] for hull in hulls]
    left = budget - _spent(costs, chosen)
    if left < 0:
        return None, 0.0
    steps = sorted(
        (-(losses[n][a] - losses[n][b]) / (costs[n][b] - costs[n][a]), n, a, b)
        for n, hull in enumerate(hulls)
        for a, b in pairwise(hull)
    )
    price = 0.0
    for slope, n, a, b in steps:
        step = int(costs[n][b] - costs[n][a])
        if chosen[n] == a and step <= left:
            chosen[n], left = b, left - step
        else:
            price = price or -float(slope)
    return chosen, price


def _bound(
    costs: list[Ints], losses: list[Floats], budget: int, price: float
) -> tuple[float, list[Floats]]:
    """Lagrange's bound at a price, and each choice's distance from its item's best at it."""
    values = [v + price * c for c, v in zip(costs, losses, strict=True)]
    bound = sum(float(each.min()) for each in values) - price * budget
    return bound, [each - each.min() for each in values]


def _refine(
    costs: list[Ints], losses: list[Floats], budget: int, price: float, bound: float,
    reduced: list[Floats], best: list[int],
) -> tuple[list[int], bool]:  # fmt: skip
    """Search for a solution better than `best`; True where the outcome is proven to be the best.

    A partial solution is the bytes spent and the sum of its reduced costs. A whole one's loss is
    bound + reduced + price * bytes left over.
    """
    limit = _lost(losses, best) - bound
    tolerance = 1e-12 * max(1.0, abs(bound))  # of rounding, far below what losses are known to
    kept = [np.flatnonzero(each <= limit + tolerance) for each in reduced]
    order = sorted(range(len(costs)), key=lambda n: (len(kept[n]), n))
    least = _sums_after(order, [int(costs[n][kept[n]].min()) for n in range(len(costs))])
    most = _sums_after(order, [int(costs[n][kept[n]].max()) for n in range(len(costs))])
    spent, paid = np.zeros(1, np.int64), np.zeros(1)
    trail: list[tuple[Ints, Ints]] = []
    proven = True
    for position, n in enumerate(order):
        options = kept[n]
        parents = np.repeat(np.arange(len(spent)), len(options))
        choices = np.tile(options, len(spent))
        spent = spent[parents] + costs[n][choices]
        paid = paid[parents] + reduced[n][choices]
        idle = np.maximum(budget - spent - most[position], 0)
        alive = (spent + least[position] <= budget) & (paid + price * idle < limit - tolerance)
        index = np.flatnonzero(alive)
        index = index[np.lexsort((paid[index], spent[index]))]
        if len(index):  # of two that spent as much or less, the one with more loss is never better
            loss = paid[index] - price * spent[index]
            index = index[np.r_[True, loss[1:] < np.minimum.accumulate(loss)[:-1]]]
        if len(index) > MAX_STATES:
            proven = False
            index = np.sort(index[np.argsort(paid[index], kind="stable")[:MAX_STATES]])
        if not len(index):
            return best, proven
        trail.append((parents[index], choices[index]))
        spent, paid = spent[index], paid[index]
    winner = int(np.argmin(paid + price * (budget - spent)))
    chosen = list(best)
    for position in reversed(range(len(order))):
        parents, choices = trail[position]
        chosen[order[position]], winner = int(choices[winner]), int(parents[winner])
    return chosen, proven


def _sums_after(order: list[int], values: list[int]) -> Ints:
    """For each position, the sum of the values of the items that come after it."""
    ordered = np.array([values[n] for n in order], np.int64)
    return np.asarray(ordered.sum() - np.cumsum(ordered))
