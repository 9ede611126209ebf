from __future__ import annotations

import numpy as np
import pytest

from miloco_edge.measure.statistics import (
    holm,
    permutation_p,
    quantile,
    ratio_of_medians,
    summarise,
)


def test_a_summary_of_known_samples() -> None:
    summary = summarise([float(i) for i in range(1, 101)])
    assert (summary.n, summary.min, summary.mean) == (100, 1.0, 50.5)
    assert summary.p50.value == 50.5
    assert summary.p90 is not None and summary.p90.value == pytest.approx(90.1)
    assert summary.p99 is not None and summary.p99.value == pytest.approx(99.01)
    assert 40 < summary.p50.low < 50.5 < summary.p50.high < 61
    assert summarise([float(i) for i in range(1, 101)]) == summary


@pytest.mark.parametrize(
    ("n", "reached"), [(1, ()), (9, ()), (10, ("p90",)), (20, ("p90", "p95")), (99, ("p90", "p95"))]
)
def test_quantiles_that_few_samples_do_not_reach_are_not_told(
    n: int, reached: tuple[str, ...]
) -> None:
    summary = summarise([1.0] * n)
    told = tuple(q for q in ("p90", "p95", "p99") if getattr(summary, q) is not None)
    assert told == reached


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(40):
        median = quantile(random.lognormal(0.0, 0.3, 20), 0.5)
        held += median.low <= 1.0 <= median.high
    assert held >= 34


def test_nothing_is_not_summed_up() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        summarise([])


def test_p_values_of_noise_are_spread_evenly() -> None:
    random = np.random.default_rng(2)
    p = [
        permutation_p(random.lognormal(0, 0.2, 12), random.lognormal(0, 0.2, 12), rounds=199)
        for _ in range(100)
    ]
    assert sum(value < 0.05 for value in p) <= 12
    assert 0.4 < np.mean(p) < 0.6


def test_a_slowdown_of_five_percent_is_seen_in_twenty_samples() -> None:
    random = np.random.default_rng(3)
    before = random.lognormal(0, 0.02, 20)
    assert permutation_p(before, before * 1.05) < 0.01
    assert permutation_p(before, before[::-1].copy()) > 0.9


def test_three_against_three_prove_nothing() -> None:
    assert permutation_p(np.array([1.0, 1.1, 1.2]), np.array([9.0, 9.1, 9.2])) > 0.09


def test_holm_corrects_by_rank_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_ratio_of_medians_and_its_interval() -> None:
    random = np.random.default_rng(4)
    ratio = ratio_of_medians(random.lognormal(0, 0.05, 50), 2 * random.lognormal(0, 0.05, 50))
    assert ratio.low < ratio.value < ratio.high
    assert ratio.value == pytest.approx(2, rel=0.05)
