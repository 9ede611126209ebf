"""Why a request must stop, and what other work put in between it must not feel."""

from __future__ import annotations

import math
import time

import pytest

from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.llama.native import AbortFlag


def test_what_overtakes_is_not_stopped_with_what_it_overtook() -> None:
    flag, interrupt = AbortFlag(), Interrupt()
    with interrupt.armed(flag):
        interrupt.cancel()  # as while the ViT runs, which does not look at the flag
        assert flag.is_set()
        with interrupt.suspended():
            assert not flag.is_set()
        assert flag.is_set(), "and goes on to stop what was overtaken"
    assert not flag.is_set()


def test_the_clock_stands_still_while_other_work_overtakes() -> None:
    interrupt = Interrupt()
    began, on_the_wall = interrupt.clock(), time.perf_counter()
    with interrupt.suspended():
        time.sleep(0.05)
    own, whole = interrupt.clock() - began, time.perf_counter() - on_the_wall
    assert whole >= 0.05
    assert 0 <= own <= whole - 0.05


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_deadline_may_be_beyond_all_clocks() -> None:
    flag, interrupt = AbortFlag(), Interrupt(math.inf)
    with interrupt.armed(flag):
        time.sleep(0.05)  # a timer that cannot wait for so long dies at once
        assert not flag.is_set() and interrupt.reason() is None


@pytest.mark.parametrize(
    ("seconds", "node_s", "way_back_s"),
    [
        (2.0, 0.0, 0.08),  # a small model: a share
        (24.0, 0.1, 0.2),  # of a long one no more than this
        (0.7, 0.12, 0.12),  # what a look has left of six seconds
        (24.0, 0.5, 0.5),  # a machine so slow
        (0.1, 0.12, 0.05),  # most of what there is is for the work
    ],
)
def test_time_is_kept_to_reach_the_caller(seconds: float, node_s: float, way_back_s: float) -> None:
    left = Interrupt(seconds, node_s).remaining()
    assert left == pytest.approx(seconds - way_back_s, abs=0.02)
