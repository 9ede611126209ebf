from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from miloco_edge.video.sample import frame_count, frame_rate, spread, window


def reference_count(total: int, rate: float, fps: float, least: int = 4, most: int = 768) -> int:
    """qwen_vl_utils' smart_nframes, written down again."""
    least, most = math.ceil(least / 2) * 2, math.floor(min(most, total) / 2) * 2
    return math.floor(min(min(max(total / rate * fps, least), most), total) / 2) * 2


@pytest.mark.parametrize(
    ("total", "rate", "fps", "count"),
    [
        (240, 24.0, 2.0, 20),
        (250, 25.0, 2.0, 20),
        (31, 30.0, 2.0, 4),  # a second of video is still four frames
        (3, 30.0, 2.0, 2),
        (2, 30.0, 2.0, 2),
        (1, 30.0, 2.0, 1),
        (2997, 30000 / 1001, 2.0, 198),  # 199.9998 frames, rounded down to even
        (54_000, 30.0, 2.0, 768),
        (100, 10.0, 1.0, 10),
        (100, 10.0, 20.0, 100),  # no more than there are
        (101, 10.0, 20.0, 100),
    ],
)
def test_count_of_a_whole_file(total: int, rate: float, fps: float, count: int) -> None:
    assert frame_count(total, rate, fps=fps, min_frames=4, max_frames=768) == count


def test_count_is_qwen_vl_utils_for_every_length() -> None:
    for rate in (8.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0, 120.0):
        for fps in (0.5, 1.0, 2.0, 4.0, 7.3):
            for total in (*range(2, 900), 5000, 108_000):
                got = frame_count(total, rate, fps=fps, min_frames=4, max_frames=768)
                assert got == reference_count(total, rate, fps), (total, rate, fps)


@pytest.mark.parametrize(
    ("frames", "total", "count"),
    [(8, 100, 8), (7, 100, 8), (5, 100, 4), (2, 100, 2), (1, 100, 1), (300, 100, 100), (9, 5, 4)],
)
def test_count_that_is_asked_for(frames: int, total: int, count: int) -> None:
    got = frame_count(total, 25.0, fps=2.0, min_frames=4, max_frames=6, frames=frames)
    assert got == count


def test_spread_is_linspace_rounded_for_a_constant_rate() -> None:
    for total in (2, 3, 4, 7, 30, 31, 240, 241, 1000, 108_000):
        for count in range(2, min(total, 768) + 1, 2):
            exact = [Fraction(i * (total - 1), count - 1) for i in range(count)]
            got = spread(np.arange(total) / 29.97, count)
            assert got.tolist() == [round(x) for x in exact], (total, count)
            assert got[0] == 0
            assert got[-1] == total - 1


def test_spread_does_not_mind_rounded_timestamps() -> None:
    exact = np.arange(300) * 1001 / 24000
    rounded = exact.round(3)
    assert spread(rounded, 24).tolist() == np.linspace(0, 299, 24).round().tolist()


def test_spread_follows_time_where_the_rate_varies() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 8.0])  # the fifth frame stays on screen
    assert spread(times, 4).tolist() == [0, 4, 5, 5]
    for seed in range(20):
        times = np.cumsum(np.random.default_rng(seed).choice([0.04, 0.04, 2.0], 200))
        chosen = times[spread(times, 32)]
        moments = np.linspace(times[0], times[-1], 32)
        nearest = np.abs(times[:, None] - moments).min(axis=0)
        np.testing.assert_allclose(np.abs(chosen - moments), nearest, atol=1e-9)


def test_rate_believes_the_container_only_where_timestamps_agree() -> None:
    ntsc = np.arange(3000) * 1001 / 30000
    assert frame_rate(ntsc, 30000 / 1001) == 30000 / 1001
    assert frame_rate(ntsc.round(3), 30000 / 1001) == 30000 / 1001
    for wrong in (0.0, 25.0, 90_000.0, float("nan"), float("inf"), -1.0):
        assert frame_rate(ntsc, wrong) == pytest.approx(30000 / 1001)
    assert frame_rate(np.zeros(5), 0.0) == 1.0


def test_window_includes_both_ends() -> None:
    times = np.arange(100) / 10
    assert window(times, None, None) == slice(0, 100)
    assert window(times, 2.0, 3.0) == slice(20, 31)
    assert window(times, 2.01, 2.99) == slice(21, 30)
    assert window(times, 2.0002, None) == slice(20, 100)  # a rounded timestamp is on time
    assert window(times, 50, None) == slice(100, 100)
    assert window(times, 5, 3) == slice(50, 50)
