from __future__ import annotations

import numpy as np
import pytest

from miloco_edge.evaluate import metrics
from miloco_edge.evaluate.metrics import Counts

YES = np.array([True, True, True, False, False, False])


def test_counts_of_a_table_made_by_hand() -> None:
    # True and false yes, false and true no: 8, 2, 4, 6.
    counts = Counts(tp=8, fp=2, fn=4, tn=6)
    assert counts.precision == pytest.approx(0.8)
    assert counts.recall == pytest.approx(8 / 12)
    assert counts.f1 == pytest.approx(16 / 22)
    assert counts.balanced_accuracy == pytest.approx((8 / 12 + 6 / 8) / 2)


def test_counting() -> None:
    said = np.array([True, True, False, True, False, False])
    assert metrics.count(said, YES) == Counts(tp=2, fp=1, fn=1, tn=2)


def test_what_is_not_defined_is_none() -> None:
    nothing = Counts(0, 0, 0, 3)
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)
    assert nothing.balanced_accuracy is None
    assert Counts(0, 1, 0, 0).f1 == 0
    assert metrics.mean([]) is None
    empty = np.array([], bool)
    assert metrics.brier(np.array([]), empty) is None
    assert metrics.calibration_error(np.array([]), empty) is None
    assert metrics.auroc(np.array([0.1, 0.9]), np.array([True, True])) is None


def test_macro_f1_is_the_mean_over_categories_with_something_in_them() -> None:
    said = np.array([True, True, False, False, False, False])
    names = np.array(["a", "a", "b", "b", "c", "c"])
    # a: both right, F1 1. b: one yes missed, F1 0. c: nothing there and nothing found.
    assert metrics.macro_f1(said, YES, names) == pytest.approx(0.5)


def test_brier() -> None:
    p = np.array([0.9, 0.6, 0.3])
    assert metrics.brier(p, np.array([True, False, False])) == pytest.approx(
        (0.01 + 0.36 + 0.09) / 3
    )


def test_calibration_error_by_hand() -> None:
    # Two bins: (0.1, 0.3) with one yes of two, (0.6, 1.0) with one of two.
    p = np.array([0.1, 0.3, 0.6, 1.0])
    yes = np.array([False, True, False, True])
    error = metrics.calibration_error(p, yes, bins=2)
    assert error == pytest.approx(0.5 * abs(0.2 - 0.5) + 0.5 * abs(0.8 - 0.5))
    certain = np.array([0.0, 1.0])
    assert metrics.calibration_error(certain, np.array([False, True])) == 0


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.3, 0.2, 0.1], 1.0),
        ([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], 0.0),
        ([0.5] * 6, 0.5),
        # Of nine pairs of a yes and a no, six in order, one tied, two the wrong way.
        ([0.9, 0.5, 0.3, 0.5, 0.4, 0.1], 6.5 / 9),
    ],
)
def test_auroc_counts_pairs(p: list[float], expected: float) -> None:
    assert metrics.auroc(np.array(p), YES) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((2, 4), 1.0),
        ((3, 5), 1 / 3),
        ((0, 8), 0.25),
        ((6, 8), 0.0),
        ((4, 6), 0.0),
        ((3, 3), 0.0),
    ],
)
def test_span_iou(found: tuple[float, float], expected: float) -> None:
    assert metrics.span_iou(found, (2, 4)) == pytest.approx(expected)


def test_spans_without_length_have_no_overlap() -> None:
    assert metrics.span_iou((1, 1), (1, 1)) == 0


def test_boxes() -> None:
    assert metrics.box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert metrics.box_iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert metrics.box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
    assert metrics.is_inside((1, 1), (0, 0, 1, 2))
    assert not metrics.is_inside((1.1, 1), (0, 0, 1, 2))


def test_intervals_draw_whole_groups() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0])
    pairs = np.array(["a", "a", "b", "b"])
    # With two groups a resample is all 0, half or all 1; a quarter of them each end.
    assert metrics.interval(pairs, lambda i: metrics.mean(values[i])) == (0.0, 1.0)
    seen: set[int] = set()

    def size(drawn: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
        seen.add(len(drawn))
        return 0.0

    metrics.interval(np.array(["a", "b", "b", "b"]), size)
    assert seen == {2, 4, 6}


def test_an_interval_covers_the_mean_of_a_coin() -> None:
    draw = np.random.default_rng(1)
    values = draw.integers(0, 2, 400).astype(float)
    found = metrics.interval(np.arange(400), lambda i: metrics.mean(values[i]))
    assert found is not None
    low, high = found
    assert low < values.mean() < high
    # Of 400 independent coins the standard error is 0.025.
    assert high - low == pytest.approx(2 * 1.96 * 0.025, rel=0.15)
    assert found == metrics.interval(np.arange(400), lambda i: metrics.mean(values[i]))


def test_no_interval_of_one_group_or_of_nothing_defined() -> None:
    assert metrics.interval(np.array(["a", "a"]), lambda _: 1.0) is None
    assert metrics.interval(np.array(["a", "b"]), lambda _: None) is None
