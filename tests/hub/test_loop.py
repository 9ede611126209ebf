"""The hub's thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from miloco_edge.errors import ClosedError
from miloco_edge.hub.loop import Loop
from tests.hub.home import until


def test_who_waits_for_it_is_told_when_it_ends() -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        release.wait(60)

    loop = Loop(hold, lambda: 0.0)
    with pytest.raises(ClosedError):
        loop.call(int)
    loop.start()
    assert held.wait(60)
    with ThreadPoolExecutor() as callers:
        waiting = callers.submit(loop.call, int)
        until(lambda: not loop._inbox.empty())
        loop.stop(0)
        release.set()
        with pytest.raises(ClosedError):
            waiting.result(8)
    with pytest.raises(ClosedError):
        loop.call(int)


def test_a_fault_is_logged_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop(lambda: None, lambda: 0.1)
    loop.start()
    loop.post(lambda: [].pop())
    assert loop.call(lambda: "done") == "done"
    assert "a fault in the hub" in caplog.text and "pop from empty list" in caplog.text
    with pytest.raises(ZeroDivisionError):
        loop.call(lambda: 1 // 0)
    loop.stop()


def test_what_nobody_waits_for_any_more_is_left_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miloco_edge.hub.loop._CALLED_S", 0.2)
    loop, release = Loop(lambda: None, lambda: 0.1), threading.Event()
    waited, done = list[bool](), list[int]()
    loop.start()
    loop.post(lambda: waited.append(release.wait(60)))
    with pytest.raises(TimeoutError):
        loop.call(lambda: done.append(1))
    release.set()
    loop.call(int)
    assert not done, "who called was told that it is not done"
    loop.stop()
