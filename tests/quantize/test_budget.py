"""The search alone: against every combination, against a full table, and its bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from quantize import budget
from quantize.budget import Choice, Size, parse_size, solve
from quantize.errors import RecipeError

Items = list[list[Choice]]


def random_items(seed: int, n: int, largest: int, choices: int) -> Items:
    random = np.random.default_rng(seed)
    return [
        [
            Choice(int(nbytes), float(loss))
            for nbytes, loss in zip(random.integers(1, largest, m), random.random(m), strict=True)
        ]
        for m in random.integers(1, choices + 1, n)
    ]


def alike(seed: int, n: int) -> Items:
    """Like a model's layers: few sizes, losses that fall with size and hardly differ."""
    random = np.random.default_rng(seed)
    return [
        [
            Choice(rows * bits, rows ** float(random.normal(0, 0.05)) * 4.0**-bits)
            for bits in (3, 4, 5, 6, 8, 16)
        ]
        for rows in random.choice([3, 7, 11], n).tolist()
    ]


def by_brute_force(items: Items, limit: int) -> float:
    return min(
        (
            sum(choice.loss for choice in choices)
            for choices in product(*items)
            if sum(choice.nbytes for choice in choices) <= limit
        ),
        default=math.inf,
    )


def by_table(items: Items, limit: int) -> float:
    """Least loss for every number of bytes up to the limit."""
    least = np.zeros(limit + 1)
    for item in items:
        after = np.full(limit + 1, math.inf)
        for choice in item:
            if choice.nbytes <= limit:
                moved = least[: limit + 1 - choice.nbytes] + choice.loss
                np.minimum(after[choice.nbytes :], moved, out=after[choice.nbytes :])
        least = after
    return float(least[limit])


def spend(items: Items, chosen: Sequence[int]) -> tuple[int, float]:
    picked = [item[i] for item, i in zip(items, chosen, strict=True)]
    return sum(c.nbytes for c in picked), sum(c.loss for c in picked)


@pytest.mark.parametrize("seed", range(150))
def test_it_finds_what_trying_everything_finds(seed: int) -> None:
    items = random_items(seed, n=1 + seed % 7, largest=40, choices=4)
    for limit in (1, 20, 45, 80, 120, 300):
        best = by_brute_force(items, limit)
        solution = solve(items, limit)
        if solution is None:
            assert best == math.inf
            continue
        assert solution.loss == pytest.approx(best, abs=1e-12)
        assert solution.gap == 0.0
        assert (solution.nbytes, solution.loss) == spend(items, solution.chosen)
        assert solution.nbytes <= limit


@pytest.mark.parametrize("seed", range(12))
def test_it_finds_what_a_full_table_finds(seed: int) -> None:
    items = alike(seed, 60) if seed % 2 else random_items(seed, n=60, largest=200, choices=8)
    smallest = sum(min(c.nbytes for c in item) for item in items)
    for limit in (smallest, smallest + 7, smallest * 3 // 2, smallest * 5 // 2):
        solution = solve(items, limit)
        assert solution is not None
        assert solution.loss == pytest.approx(by_table(items, limit), rel=1e-12, abs=1e-15)
        assert solution.gap == 0.0
        assert solution.nbytes <= limit


@pytest.mark.parametrize("seed", range(6))
def test_when_it_gives_up_early_the_gap_covers_the_best(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_STATES", 2)
    items = random_items(seed, n=40, largest=200, choices=8)
    unproven = 0
    for limit in range(1500, 4000, 250):
        solution = solve(items, limit)
        if solution is None:
            continue
        best = by_table(items, limit)
        assert solution.nbytes <= limit
        assert solution.loss - solution.gap <= best + 1e-12
        assert best <= solution.loss + 1e-12
        unproven += solution.gap > 0
    assert unproven


def test_the_same_input_gives_the_same_choice() -> None:
    items = alike(3, 200)
    limit = sum(item[2].nbytes for item in items)
    first = solve(items, limit)
    assert first == solve(items, limit)
    assert first is not None and first.gap <= 0.01 * first.loss


def test_the_smallest_fits_exactly_and_a_byte_less_does_not() -> None:
    items = alike(1, 30)
    smallest = sum(item[0].nbytes for item in items)
    solution = solve(items, smallest)
    assert solution is not None and solution.chosen == (0,) * 30
    assert solve(items, smallest - 1) is None
    assert solve(items, -5) is None


def test_with_room_for_all_everything_is_the_best() -> None:
    items = alike(1, 30)
    solution = solve(items, 10**9)
    assert solution is not None and solution.chosen == (5,) * 30 and solution.gap == 0


def test_what_is_larger_and_loses_more_is_not_taken() -> None:
    items = [[Choice(10, 0.5), Choice(20, 0.7), Choice(20, 0.2), Choice(30, 0.2)]] * 3
    solution = solve(items, 10**6)
    assert solution is not None and solution.chosen == (2, 2, 2)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4.5GiB", Size("4.5GiB", 4831838208)),
        (" 4.5 gib ", Size("4.5GiB", 4831838208)),
        ("4500MB", Size("4500MB", 4_500_000_000)),
        ("4500mb", Size("4500MB", 4_500_000_000)),
        ("900MiB", Size("900MiB", 900 << 20)),
        ("12KiB", Size("12KiB", 12288)),
        ("4831838208", Size("4831838208", 4831838208)),
        ("512B", Size("512B", 512)),
        ("0.1GB", Size("0.1GB", 10**8)),
    ],
)
def test_sizes_are_read_exactly(text: str, size: Size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-1GiB", "4.5", "1.5B", "4,5GiB", "4.5 GiB text", "4.5TiB", "1e9", "nan", "4IB",
     "4..5GiB", "٤GiB", "9" * 30, "../x"],
)  # fmt: skip
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="expected a size like"):
        parse_size(text)
