from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from miloco_edge.hub.settings import CameraSettings
from miloco_edge.hub.watch import Watch
from miloco_edge.hub.window import cut, pair_end
from miloco_edge.video import Frame
from miloco_edge.video.address import Address

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


def watched(times: list[float], *turns: float) -> list[list[tuple[float, float]]]:
    """Pairs of the windows that are cut at each turn, of frames that came until then."""
    address = Address("file", "hall.mp4")
    watch = Watch(CameraSettings("hall", address, seconds=3, fps=2), None, ())
    found = []
    for turn in turns:
        window = watch.cut(tuple(frames(*(t for t in times if t <= turn))))
        seen = [] if window is None else [frame.time_s for frame in window.frames]
        found.append(list(zip(seen[::2], seen[1::2], strict=True)))
    return found


def test_windows_share_their_pairs_whatever_the_camera_s_jitter() -> None:
    jitter = (0.0, 0.04, -0.05, 0.08, -0.08, 0.02)
    times = [round(i / 2 + jitter[i % 6], 2) for i in range(60)]
    windows = watched(times, 10.05, 12.1, 14.2, 16.1)
    for before, after in pairwise(windows):
        assert len(before) == len(after) == 3
        assert before[-1] == after[0], "two seconds later, one of the three is shared"


def test_what_is_newest_counts_where_pairs_cannot_be_shared() -> None:
    times = [i / 2 for i in range(60)]
    first, second = watched(times, 10.0, 11.5)
    assert first[-1] == (9.5, 10.0)
    assert second[-1] == (11.0, 11.5), "not what was seen half a second before"


def test_one_turn_astray_does_not_move_the_clock_and_two_do() -> None:
    times = [i / 2 for i in range(60)]
    *_, late = watched(times, 10.0, 11.5, 13.0)
    assert late[-1] == (12.5, 13.0)
    windows = watched(times, 10.0, 11.5, 13.5, 15.5)
    assert windows[-2][-1] == windows[-1][0] == (13.0, 13.5)


@pytest.mark.parametrize(
    ("newest_s", "end_s"),
    [(12.0, 12.0), (12.2, 12.0), (11.8, 12.0), (12.3, 12.3), (11.6, 11.6), (9.0, 9.0)],
)
def test_pairs_end_by_the_clock(newest_s: float, end_s: float) -> None:
    assert pair_end(newest_s, 10.0, fps=2) == pytest.approx(end_s)


def test_a_frame_may_be_late_for_the_last_moment() -> None:
    late = frames(7.5, 8, 8.5, 9, 9.5, 10.1)
    on_time = cut("hall", late, 10.0, seconds=3, fps=2)
    assert on_time is not None and on_time.frames[-1].time_s == 9.5
    window = cut("hall", late, 10.0, seconds=3, fps=2, slack_s=0.25)
    assert window is not None and window.frames[-1].time_s == 10.1
    assert (window.start_s, window.end_s) == (7.0, 10.0)
    early = cut("hall", frames(9.4, 9.8), 10.0, seconds=1, fps=2)
    assert early is not None and early.end_s == 9.8, "no window ends after what it shows"
