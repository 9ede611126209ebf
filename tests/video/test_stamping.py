"""Capture times from arrivals and stream times."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from miloco_edge.video.stamping import MOST_LAG_S, Stamping


def stamped(shots: Iterable[tuple[float, float | None]]) -> list[float]:
    """Capture times of (arrival, stream time) pairs."""
    stamping, times = Stamping(), []
    for arrival_s, stream_s in shots:
        stamping, captured_s = stamping.stamp(arrival_s, stream_s)
        times.append(captured_s)
    return times


def test_uneven_arrivals_have_even_capture_times() -> None:
    chance = random.Random(1)
    shots = [(1000 + i * 0.1 + chance.uniform(0, 0.4), 50 + i * 0.1) for i in range(200)]
    times = stamped(shots)[50:]
    gaps = [b - a for a, b in pairwise(times)]
    assert max(abs(gap - 0.1) for gap in gaps) < 0.06
    assert all(
        captured <= arrival for captured, (arrival, _) in zip(times, shots[50:], strict=True)
    )


def test_a_burst_after_a_stall_keeps_its_moments() -> None:
    before = [(i * 0.5, i * 0.5) for i in range(10)]
    burst = [(7.0, 5.0 + i * 0.5) for i in range(4)]  # two seconds of frames, all at once
    times = stamped([*before, *burst])
    assert times[10:] == pytest.approx([5.0, 5.5, 6.0, 6.5], abs=0.01)


def test_a_camera_whose_clock_is_a_little_off_is_followed() -> None:
    for rate in (0.9995, 1.0005):
        times = stamped((i * 0.5, i * 0.5 * rate) for i in range(20_000))
        assert abs(times[-1] - 19_999 * 0.5) < 0.1


def test_a_stream_that_begins_anew_is_followed() -> None:
    first = [(i * 0.5, 1e6 + i * 0.5) for i in range(10)]
    again = [(5 + i * 0.5, i * 0.5) for i in range(10)]
    assert stamped([*first, *again])[10:] == pytest.approx([5 + i * 0.5 for i in range(10)])


def test_without_stream_time_the_arrival_counts() -> None:
    assert stamped([(1.0, None), (1.7, None)]) == [1.0, 1.7]


def test_a_stream_whose_rate_was_guessed_wrong_is_stamped_on_arrival_in_the_end() -> None:
    """15 frames a second that claim to be 25: their time runs slow."""
    shots = [(i / 15, i / 25) for i in range(15 * 120)]
    late = [a - c for (a, _), c in zip(shots, stamped(shots), strict=True)]
    assert max(late) > MOST_LAG_S, "at first they look late"
    assert max(late[15 * 60 :]) == 0.0
