"""One thread that does what others hand it, one thing after the other."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from typing import TypeVar

from miloco_edge.errors import ClosedError

log = logging.getLogger(__name__)
T = TypeVar("T")

_CALLED_S = 10.0
"""Longest that who calls waits."""


class Loop:
    """The hub's thread: what is posted is done in its turn, and `tick` where nothing is left.

    `wait_s` says for how long to wait for more before the next tick. It outlives faults of what it
    does: they are logged, and what was at work is lost.
    """

    def __init__(self, tick: Callable[[], None], wait_s: Callable[[], float]) -> None:
        self._tick, self._wait_s = tick, wait_s
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="miloco-edge hub", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End after what is at work; what was posted and not begun is left undone."""
        self._stop.set()
        self.post(lambda: None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def post(self, work: Callable[[], None]) -> None:
        """Have it done, soon."""
        self._inbox.put(work)

    def call(self, function: Callable[[], T]) -> T:
        """Have it done and wait for what it gives.

        Raises ClosedError where the thread does not run or ends before, TimeoutError after 10 s;
        what has not begun by then is left undone.
        """
        if self._stop.is_set() or not self._thread.is_alive():
            raise ClosedError("expected a hub that runs, got one that does not")
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self.post(run)
        for _ in range(round(_CALLED_S / 0.1)):  # unless the thread ends with this left undone
            if futures.wait([future], 0.1).done:
                return future.result()
            if not self._thread.is_alive():
                raise ClosedError("expected a hub that runs, got one that was closed")
        future.cancel()
        raise TimeoutError(f"expected the hub to answer within {_CALLED_S:g} s, got no answer")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._safely(self._inbox.get(timeout=self._wait_s()))
                while True:
                    self._safely(self._inbox.get_nowait())
            except queue.Empty:
                self._safely(self._tick)

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("a fault in the hub")
