"""Taking turns: who is answered next, who waits, and who is sent away.

A request with a higher priority goes first; among equals, the one that came first. When more wait
than may, the last of the lowest priority is sent away, which may be the one that came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from miloco_edge.serve.refusal import Refusal, busy

_FIRST_GUESS_S = 5.0
_MEMORY = 0.2
"""Weight of the newest request in what one is expected to take."""


@dataclass(order=True)
class _Waiting:
    rank: tuple[int, int]
    granted: asyncio.Future[None] = field(compare=False)

    def send_away(self, why: Refusal) -> None:
        """Have it raise, unless its client or its time is gone in this very moment."""
        if not self.granted.done():
            self.granted.set_exception(why)


class Turns:
    """At most `slots` at once, at most `waiting` in line. Used in one event loop."""

    def __init__(
        self, slots: int, waiting: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots, self._most, self._clock = slots, waiting, clock
        self._line: list[_Waiting] = []
        self._count = 0
        self._busy = 0
        self._expected_s = _FIRST_GUESS_S
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    @property
    def active(self) -> int:
        """How many have their turn."""
        return self._busy

    def close(self) -> None:
        """Send away all who wait and who will come; those whose turn it is go on."""
        self._closed = True
        for each in self._line:
            each.send_away(_closing())
        self._line.clear()

    @asynccontextmanager
    async def turn(self, priority: int, seconds: float) -> AsyncIterator[float]:
        """Wait for a turn, at most so many seconds; gives the seconds that it took.

        Raises Refusal: 429 where too many wait, 503 where the seconds passed or the server closes.
        """
        began = self._clock()
        await self._wait(priority, seconds)
        started = self._clock()
        try:
            yield started - began
        finally:
            took = self._clock() - started
            self._expected_s += _MEMORY * (took - self._expected_s)
            self._pass_on()

    def retry_after_s(self) -> float:
        """When one that is sent away now may expect to be let in."""
        return min(120.0, self._expected_s * (len(self._line) + 1) / self._slots)

    async def _wait(self, priority: int, seconds: float) -> None:
        if self._closed:
            raise _closing()
        if self._busy < self._slots:
            self._busy += 1
            return
        self._count += 1
        mine = _Waiting((-priority, self._count), asyncio.get_running_loop().create_future())
        if len(self._line) >= self._most:
            last = max([mine, *self._line])
            if last is mine:
                raise busy(self.retry_after_s())
            self._line.remove(last)
            last.send_away(busy(self.retry_after_s()))
        self._line.append(mine)
        try:
            await asyncio.wait_for(mine.granted, seconds)
        except TimeoutError:
            self._decline(mine)
            raise Refusal(
                503,
                "deadline",
                "the request's time ran out before its turn came",
                retry_after_s=self.retry_after_s(),
            ) from None
        except asyncio.CancelledError:
            self._decline(mine)
            raise
        finally:
            if mine in self._line:
                self._line.remove(mine)

    def _decline(self, mine: _Waiting) -> None:
        """Pass a turn on that was granted in the very moment in which its client left."""
        granted = mine.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._line:
            first = min(self._line)
            self._line.remove(first)
            if not first.granted.done():
                first.granted.set_result(None)
                return
        self._busy -= 1


def _closing() -> Refusal:
    return Refusal(503, "shutting_down", "the server is shutting down", retry_after_s=10)
