"""Rules over windows."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from miloco_edge import Clip
from miloco_edge.page.odds import chart, verdict
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.watch import Judged, Watch, live, sentences, windows
from miloco_edge.types import Decision


def test_sentences_are_lines_once_each() -> None:
    assert sentences(" a \n\nb\na\n") == ("a", "b")
    assert len(sentences("\n".join(map(str, range(40))))) == 16


@pytest.mark.parametrize(
    ("frames", "starts"), [(10, [0, 2, 4]), (6, [0]), (4, [0]), (12, [0, 2, 4, 6])]
)
def test_windows_overlap_at_even_frames(frames: int, starts: list[int]) -> None:
    clip = Clip.from_frames([np.zeros((28, 28, 3), np.uint8)] * frames, fps=2.0)
    cut = windows(clip, 3.0)
    assert [window.times_s[0] * 2 for window in cut] == starts
    assert cut[-1].times_s[-1] == clip.times_s[-1], "the end is seen"


def test_pictures_are_one_window() -> None:
    clip = Clip.from_images([np.zeros((28, 28, 3), np.uint8), np.zeros((56, 28, 3), np.uint8)])
    assert windows(clip, 3.0) == [clip]


def test_rules_are_judged_window_by_window(scenes: Scenes, film: Path) -> None:
    clips = windows(Clip.from_file(film, fps=2), 3.0)
    rules = ("A ball rolls", "有人在看书")
    courses = list(Watch(scenes).run(clips, rules, 128, moving=False))
    assert [len(course) for course in courses] == list(range(1, len(clips) + 1))
    for judged in courses[-1]:
        assert tuple(d.rule for d in judged.decisions) == rules
        assert all(d.p_yes is not None and 0 <= d.p_yes <= 1 for d in judged.decisions)
    first = clips[0].times_s
    assert (courses[-1][0].start_s, courses[-1][0].end_s) == (first[0], first[-1])


def test_a_watch_that_was_stopped_judges_no_more(scenes: Scenes, film: Path) -> None:
    clips = windows(Clip.from_file(film, fps=2), 3.0)
    watch = Watch(scenes)
    courses = watch.run(clips, ("A ball rolls",), 64, moving=False)
    next(courses)
    watch.stop()
    assert list(courses) == []


def test_live_gives_each_moment_once() -> None:
    stop = threading.Event()
    clips = [
        Clip.from_frames([np.zeros((28, 28, 3), np.uint8)] * 2, 2.0, (t, t + 0.5)) for t in (0, 1)
    ]
    served = iter([None, clips[0], clips[0], clips[1]])

    def newest() -> Clip | None:
        try:
            return next(served)
        except StopIteration:
            stop.set()
            return None

    assert list(live(newest, stop)) == clips


def judged(*odds: float | None) -> Judged:
    decisions = tuple(
        Decision(
            f"rule <{i}>",
            "unknown" if p is None else "yes" if p >= 0.5 else "no",
            p,
            0.0,
            "logits",
            "black" if p is None else None,
        )
        for i, p in enumerate(odds)
    )
    return Judged(0.0, 2.5, decisions, 0.1)


def test_the_threshold_decides_what_holds() -> None:
    decision = judged(0.6).decisions[0]
    assert verdict(decision, 0.5, "en") == "holds"
    assert verdict(decision, 0.7, "en") == "does not hold"
    assert verdict(judged(None).decisions[0], 0.5, "zh") == "未知 (black)"


def test_the_chart_draws_a_line_a_rule_and_breaks_it_where_nothing_is_known() -> None:
    drawn = chart([judged(0.1, 0.9), judged(0.2, None), judged(0.3, 0.8)], 0.5, "en")
    assert drawn.count("<polyline") == 1 and drawn.count("<circle") == 2
    assert "rule &lt;0&gt;" in drawn and "<0>" not in drawn
    assert 'points="0.0,72.0 300.0,64.0 600.0,56.0"' in drawn
    assert 'y1="40.0"' in drawn, "the threshold"
    assert chart([], 0.5, "zh") == "<p>写下规则，然后点击“开始观察”。</p>"
