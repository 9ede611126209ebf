"""When windows come: each after the one before it, or at a camera's own pace."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

Report = Callable[[int, int], None]
"""Called with the windows done and their total."""


def closed_loop(
    serve: Callable[[int], T], windows: int, progress: Report = lambda done, total: None
) -> list[T]:
    """Serve windows one after another: what the machine can do."""
    served = []
    for number in range(windows):
        served.append(serve(number))
        progress(number + 1, windows)
    return served


def at_rate(
    serve: Callable[[int, float], T],
    windows: int,
    interval_s: float,
    progress: Report = lambda done, total: None,
    *,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> list[T]:
    """Serve windows that come every `interval_s`, whether or not the one before is done.

    Each is served with the moment when it was captured, so that time in the queue counts
    ("coordinated omission" otherwise: https://www.scylladb.com/2021/04/22/on-coordinated-omission/).
    """
    began, served = now(), []
    for number in range(windows):
        captured = began + number * interval_s
        if (early := captured - now()) > 0:
            sleep(early)
        served.append(serve(number, captured))
        progress(number + 1, windows)
    return served
