"""Why a request must stop: its deadline passed, or its caller gave up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from miloco_edge.llama import AbortFlag

StopReason = Literal["deadline", "cancelled"]


class Stopped(Exception):
    """Raised inside the worker when a request must stop. Never leaves the engine."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Interrupt:
    """One request's deadline and its caller's change of mind, from any thread.

    While armed, either sets llama.cpp's abort flag, so a computation under way ends at its next
    graph node (CPU) or slice.
    """

    def __init__(self, seconds: float | None = None, node_s: float = 0.0) -> None:
        """`node_s` is the longest that one graph node takes."""
        self._end = None
        if seconds is not None:
            self._end = time.monotonic() + seconds - _way_back_s(seconds, node_s)
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._flag: AbortFlag | None = None
        self.between: Callable[[], None] | None = None
        """Called at each `check`, where other work may be put in."""
        self.kept_back: Callable[[], float] = lambda: 0.0
        """Seconds at the end that are for what comes after this request."""
        self._overtaken_s = 0.0

    def cancel(self) -> None:
        """Ask the request to stop; one that has ended already is left alone."""
        self._cancelled.set()
        self._abort()

    def remaining(self) -> float:
        """Seconds to the deadline; infinite without one, negative after it."""
        return float("inf") if self._end is None else self._end - time.monotonic()

    def clock(self) -> float:
        """Seconds, as time.perf_counter(), but standing still while other work overtakes."""
        return time.perf_counter() - self._overtaken_s

    def has_time(self, seconds: float) -> bool:
        """Whether something can take so long and leave what is kept back."""
        return seconds <= self.remaining() - self.kept_back()

    def reason(self) -> StopReason | None:
        """Why to stop, if there is a reason now."""
        if self._cancelled.is_set():
            return "cancelled"
        return "deadline" if self.remaining() <= 0 else None

    def check(self) -> None:
        """Between two slices: let other work overtake; raise Stopped if there is a reason to."""
        if self.between is not None:
            self.between()
        if (reason := self.reason()) is not None:
            raise Stopped(reason)

    @contextmanager
    def armed(self, flag: AbortFlag) -> Iterator[None]:
        """Let the deadline and `cancel` reach into computations made inside the block."""
        timer = None
        if self._end is not None:
            seconds = min(max(0.0, self.remaining()), threading.TIMEOUT_MAX)
            timer = threading.Timer(seconds, self._abort)
            timer.daemon = True
        with self._lock:
            self._flag = flag
        if self._cancelled.is_set():
            self._abort()
        if timer is not None:
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._flag = None
                flag.clear()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Keep the deadline and `cancel` away from other work inside the block."""
        began = time.perf_counter()
        with self._lock:
            flag, self._flag = self._flag, None
            if flag is not None:
                flag.clear()  # it may have been set while the ViT ran, which does not look at it
        try:
            yield
        finally:
            self._overtaken_s += time.perf_counter() - began
            with self._lock:
                self._flag = flag
            if self.reason() is not None:
                self._abort()

    def _abort(self) -> None:
        with self._lock:
            if self._flag is not None:
                self._flag.set()


def _way_back_s(seconds: float, node_s: float) -> float:
    """What is left for the answer to reach its caller in time.

    What is asked of a scene may come with the little that its look has left of a deadline, of
    which a share says nothing about how long a large model takes to stop.
    """
    return min(max(min(0.04 * seconds, 0.2), node_s), 0.5 * seconds)
