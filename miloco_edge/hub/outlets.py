"""Who hears of events: sinks, callbacks, and coroutines that iterate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from miloco_edge.hub.event import Event
from miloco_edge.hub.journal import Journal
from miloco_edge.hub.sinks import Callback, Outlet, Sink

_WAITING = 1000


class Outlets:
    """All that hears of events, each at its own pace."""

    def __init__(self) -> None:
        self.outlets: list[Outlet] = []
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Event | None]]] = []
        self._silent = False

    def add_sink(self, sink: Sink, journal: Journal | None = None) -> Outlet:
        """Send all events from now on to a sink, in a thread of its own.

        With a journal also those that it owes to a sink of that name.
        """
        outlet = Outlet(sink, journal)
        self.outlets = [*self.outlets, outlet]
        return outlet

    def remove_sink(self, name: str, journal: Journal | None = None) -> None:
        """Send no more to the sinks of that name which were added with that journal, or none."""
        mine = [e for e in self.outlets if e.sink.name == name and e.journal is journal]
        for outlet in mine:
            self.outlets = [each for each in self.outlets if each is not outlet]
            outlet.close()

    def on_event(self, function: Callable[[Event], None]) -> Callable[[], None]:
        """Call `function` with each event, in a thread of its own; what is returned undoes it."""
        outlet = self.add_sink(Callback(function))

        def undo() -> None:
            self.outlets = [each for each in self.outlets if each is not outlet]
            outlet.close()

        return undo

    async def events(self) -> AsyncIterator[Event]:
        """Events from now on, until the hub is closed. One that is not fetched in time is lost:
        a thousand wait."""
        pending: asyncio.Queue[Event | None] = asyncio.Queue()
        listener = (asyncio.get_running_loop(), pending)
        self._listeners = [*self._listeners, listener]
        try:
            while not self._silent and (event := await pending.get()) is not None:
                yield event
        finally:
            self._listeners = [each for each in self._listeners if each is not listener]

    def tell(self, event: Event) -> None:
        """Give an event to all."""
        for outlet in self.outlets:
            outlet.put(event)
        for loop, pending in self._listeners:
            with suppress(RuntimeError):  # a loop that was closed listens no more
                loop.call_soon_threadsafe(_put, pending, event)

    def close_outlets(self) -> None:
        """Send what can be sent at once; iterations end."""
        self._silent = True
        for loop, pending in self._listeners:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(pending.put_nowait, None)
        for outlet in self.outlets:
            outlet.close(0.5 / len(self.outlets))


def _put(pending: asyncio.Queue[Event | None], event: Event) -> None:
    if pending.qsize() >= _WAITING:
        pending.get_nowait()
    pending.put_nowait(event)
