"""Coroutines that are cancelled leave nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from miloco_edge import AsyncEngine, Engine


def test_a_load_that_nobody_waits_for_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, closed = threading.Event(), threading.Event()

    class Loaded:
        def close(self) -> None:
            closed.set()

    def load(*_: object) -> Loaded:
        may_end.wait(5)
        return Loaded()

    monkeypatch.setattr(Engine, "load", load)

    async def visit() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(AsyncEngine.load("some"), 0.05)
        assert not closed.is_set()
        may_end.set()

    asyncio.run(visit())
    assert closed.wait(5)
