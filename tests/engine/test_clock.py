"""A budget whose seconds run."""

from __future__ import annotations

from miloco_edge import Budget
from miloco_edge.engine.clock import Clock


def test_seconds_run_and_the_rest_stays() -> None:
    time_s = 100.0
    clock = Clock(Budget(visual_tokens=64, seconds=5), now=lambda: time_s)
    late = Clock(Budget(seconds=5), 97.0, now=lambda: time_s)
    time_s = 101.5
    assert clock.left() == Budget(visual_tokens=64, seconds=3.5)
    assert late.left() == Budget(seconds=0.5), "it ran before the clock was made"
    time_s = 200.0
    for each in (clock, late):
        assert 0 < (each.left().seconds or 0) < 1e-3, "never less than nothing"


def test_without_a_deadline_none_comes() -> None:
    assert Clock(Budget(answer_tokens=3)).left() == Budget(answer_tokens=3)
    assert Clock(None).left() == Budget()
