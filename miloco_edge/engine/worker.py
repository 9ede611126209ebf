"""The one thread that owns a model, and what is asked of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.errors import ClosedError

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """Work handed to the worker, and the handle to stop it."""

    future: Future[T]
    interrupt: Interrupt

    def result(self) -> T:
        """Wait for the outcome; leaving early (Ctrl-C) cancels the work."""
        try:
            return self.future.result()
        except BaseException:
            self.interrupt.cancel()
            raise


class Worker:
    """Runs requests one after another, in the order in which they came.

    Urgent ones come first, and are put between two slices of one that is under way.
    """

    def __init__(self) -> None:
        self._urgent: deque[Callable[[], None]] = deque()
        self._left_over: deque[Callable[[], None]] = deque()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="miloco-edge")
        self._live: set[Interrupt] = set()
        self._closed = False

    def submit(
        self, work: Callable[[], T], interrupt: Interrupt, *, urgent: bool = False
    ) -> Request[T]:
        """Queue `work`; raises ClosedError after `close`."""
        if self._closed:
            raise ClosedError("expected an open engine, got one that was closed")
        self._live.add(interrupt)
        future: Future[T]
        try:
            if urgent:
                future = Future()
                self._urgent.append(lambda: _run(work, future))
                self._executor.submit(self._run_next)  # in case nothing is under way
            else:
                future = self._executor.submit(self._run_between, work, interrupt)
        except RuntimeError as error:  # closed by another thread meanwhile
            self._live.discard(interrupt)
            raise ClosedError("expected an open engine, got one that was closed") from error
        future.add_done_callback(lambda _: self._live.discard(interrupt))
        return Request(future, interrupt)

    def before_next(self, work: Callable[[], None]) -> None:
        """Have work done before the next request; never, where there is none.

        Takes no lock: the garbage collector may call it in the middle of `submit`.
        """
        self._left_over.append(work)

    def _run_between(self, work: Callable[[], T], interrupt: Interrupt) -> T:
        """Run work that may be overtaken."""

        def overtake() -> None:
            if self._urgent:
                with interrupt.suspended():
                    self._run_urgent()

        self._run_next()
        interrupt.between = overtake
        return work()

    def _run_next(self) -> None:
        while self._left_over:
            self._left_over.popleft()()
        self._run_urgent()

    def _run_urgent(self) -> None:
        while self._urgent:
            self._urgent.popleft()()

    def cancel(self) -> None:
        """Stop the request that runs and those that wait, from any thread."""
        for interrupt in list(self._live):
            interrupt.cancel()

    def close(self) -> None:
        """Stop everything and wait for the thread to end; a second call does nothing."""
        self._closed = True
        self.cancel()
        self._executor.shutdown(wait=True)


def _run(work: Callable[[], T], future: Future[T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
