"""Why a request must stop, and what other work put in between it must not feel."""

from __future__ import annotations

import time

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
