from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from miloco_edge.hub.window import cut
from miloco_edge.video import Frame

PIXELS = np.zeros((4, 6, 3), np.uint8)


def frames(*times: float) -> list[Frame]:
    return [Frame(PIXELS, time_s) for time_s in times]


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ([7.5, 8, 8.5, 9, 9.5, 10], [7.5, 8, 8.5, 9, 9.5, 10]),
        ([8.49, 9.02, 9.49, 10], [8.49, 9.02, 9.49, 10]),
        (np.arange(5, 12, 0.1).tolist(), [7.5, 8, 8.5, 9, 9.5, 10]),
        # A hole in the middle is a hole.
        ([7.6, 7.9, 9.6, 10], [7.6, 7.9, 9.6, 10]),
        # Pairs: the oldest of an odd number goes.
        ([9, 9.5, 10], [9.5, 10]),
        ([10], [10]),
        # Nothing from before the window, nothing from after it.
        ([6.9, 10.1, 10.2], []),
    ],
)
def test_windows_are_cut_by_capture_time(times: list[float], chosen: list[float]) -> None:
    window = cut("hall", frames(*times), 10.0, seconds=3, fps=2)
    assert [f.time_s for f in window.frames] == pytest.approx(chosen) if window else not chosen


def test_frames_of_another_size_are_left_out() -> None:
    small = [Frame(PIXELS[:2], t) for t in (7.5, 8.0)]
    window = cut("hall", small + frames(8.5, 9, 9.5, 10), 10.0, seconds=3, fps=2)
    assert window is not None
    assert [frame.time_s for frame in window.frames] == [8.5, 9, 9.5, 10]


def test_a_window_becomes_a_clip_from_zero() -> None:
    window = cut("hall", frames(9.5, 10), 10.0, seconds=1, fps=2)
    assert window is not None
    clip = window.clip()
    assert (clip.times_s, clip.fps, clip.source) == ((0.5, 1.0), 2, "hall")
    assert replace(window, camera="attic").clip().source == "attic"
