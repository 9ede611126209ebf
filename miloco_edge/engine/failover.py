"""Several engines as one: the first that can takes the work, and another where it goes down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar, Unpack

from miloco_edge.engine.clock import Clock
from miloco_edge.engine.protocol import (
    Emit,
    EngineState,
    Pending,
    QuestionOptions,
    Seen,
    WindowEngine,
    refused,
)
from miloco_edge.errors import ClosedError, EngineDownError
from miloco_edge.types import Answer, Budget
from miloco_edge.video import Clip

log = logging.getLogger(__name__)
T = TypeVar("T")


class Failover:
    """Engines in order of preference (`WindowEngine`).

    Work goes to the first that is up and has a free slot, else to the first that is up, else to
    the first. Where that goes down, the next gets the same work, once each.
    """

    def __init__(self, engines: Sequence[WindowEngine]) -> None:
        if not engines:
            raise ValueError("Failover: expected at least one engine, got none")
        self.engines = tuple(engines)
        self._busy = {id(engine): 0 for engine in engines}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        """The model of the engine that work goes to now."""
        return self._choose(()).name

    @property
    def state(self) -> EngineState:
        """The best of all states."""
        states = {engine.state for engine in self.engines}
        order: tuple[EngineState, ...] = ("ready", "loading", "unloaded", "down", "closed")
        return next(state for state in order if state in states)

    @property
    def slots(self) -> int:
        """Of all together."""
        return sum(engine.slots for engine in self.engines)

    def load(self) -> None:
        """Have one ready; raises what the last raised where none can be."""
        error: Exception | None = None
        for engine in self.engines:
            try:
                return engine.load()
            except Exception as failed:
                log.warning("%s", failed)
                error = failed
        assert error is not None
        raise error

    def unload(self) -> None:
        """Unload all."""
        for engine in self.engines:
            engine.unload()

    def close(self) -> None:
        """Close all."""
        self._closed = True
        for engine in self.engines:
            engine.close()

    def decide(
        self,
        clip: Clip,
        rules: Sequence[str],
        *,
        budget: Budget | None = None,
    ) -> Pending[Seen]:
        """As WindowEngine.decide."""
        clock = Clock(budget)
        return self._run(lambda engine: engine.decide(clip, rules, budget=clock.left()))

    def ask(
        self,
        clip: Clip | None,
        question: str,
        *,
        emit: Emit | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Pending[Answer]:
        """As WindowEngine.ask. An answer that has begun is not begun again elsewhere."""
        begun, clock = threading.Event(), Clock(options.get("budget"))

        def give_on(piece: object) -> None:
            begun.set()
            assert emit is not None
            emit(piece)  # type: ignore[arg-type]

        def start(engine: WindowEngine) -> Pending[Answer]:
            options["budget"] = clock.left()
            return engine.ask(clip, question, emit=None if emit is None else give_on, **options)

        return self._run(start, begun)

    def _run(
        self, start: Callable[[WindowEngine], Pending[T]], begun: threading.Event | None = None
    ) -> Pending[T]:
        if self._closed:
            raise ClosedError("expected an open engine, got one that was closed")
        outcome: Future[T] = Future()
        tried: list[WindowEngine] = []
        current: list[Pending[T]] = []
        cancelled = threading.Event()

        def attempt() -> None:
            engine = self._choose(tried)
            tried.append(engine)
            self._count(engine, 1)
            try:
                pending = start(engine)
            except Exception as error:
                pending = refused(error)
            current[:] = [pending]
            if cancelled.is_set():
                pending.cancel()
            pending.future.add_done_callback(lambda future: ended(engine, future))

        def ended(engine: WindowEngine, future: Future[T]) -> None:
            self._count(engine, -1)
            error = ClosedError("cancelled") if future.cancelled() else future.exception()
            again = isinstance(error, EngineDownError) and not (begun and begun.is_set())
            if again and len(tried) < len(self.engines) and not cancelled.is_set():
                log.warning("%s: the next engine takes over", error)
                attempt()
            elif outcome.set_running_or_notify_cancel():
                if error is not None:
                    outcome.set_exception(error)
                else:
                    outcome.set_result(future.result())

        def cancel() -> None:
            cancelled.set()
            for pending in current:
                pending.cancel()

        attempt()
        return Pending(outcome, cancel)

    def _choose(self, tried: Sequence[WindowEngine]) -> WindowEngine:
        left = [engine for engine in self.engines if engine not in tried]
        up = [engine for engine in left if engine.state not in ("down", "closed")]
        with self._lock:
            free = [engine for engine in up if self._busy[id(engine)] < engine.slots]
        return (free or up or left)[0]

    def _count(self, engine: WindowEngine, change: int) -> None:
        with self._lock:
            self._busy[id(engine)] += change
