"""Where events go: each sink in a thread of its own, so that a slow one holds up nobody."""

from __future__ import annotations

import http.client
import json
import logging
import threading
import urllib.parse
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from miloco_edge.hub.event import Event
from miloco_edge.hub.journal import Journal

log = logging.getLogger(__name__)

_WAITING = 1000
_BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Sink(Protocol):
    """Takes events, one after another, in one thread."""

    @property
    def name(self) -> str:
        """As messages name it."""
        ...

    def send(self, event: Event) -> None:
        """Deliver; OSError where it may be tried again later."""
        ...

    def close(self) -> None:
        """Let go of what is open; at the end also while `send` still waits, which then raises."""
        ...


class Callback:
    """Calls a function of the host program's."""

    name = "callback"

    def __init__(self, function: Callable[[Event], None]) -> None:
        self._function = function

    def send(self, event: Event) -> None:
        """Call it; what it raises is logged."""
        try:
            self._function(event)
        except Exception:
            log.exception("a callback failed on event %s", event.id)

    def close(self) -> None:
        """Nothing is open."""


class Lines:
    """Appends each event to a file as a line of JSON."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path = name, path

    def send(self, event: Event) -> None:
        """Append the line."""
        left = (json.dumps(event.document(), ensure_ascii=False) + "\n").encode()
        with self._path.open("ab", buffering=0) as file:
            end = file.tell() if file.seekable() else None
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                if end is not None:
                    file.truncate(end)  # half a line on a full disk would spoil the next one too
                raise

    def close(self) -> None:
        """Nothing is open."""


class Webhook:
    """Posts each event to an URL as JSON, with its id as Idempotency-Key. Follows no redirect."""

    def __init__(
        self, name: str, url: str, *, token: str | None = None, timeout_s: float = 10.0
    ) -> None:
        self.name, self._timeout_s = name, timeout_s
        self._url = urllib.parse.urlsplit(url)
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def send(self, event: Event) -> None:
        """Post it; OSError for no answer, and for one that is not 2xx."""
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        connection = kinds[self._url.scheme](
            self._url.hostname or "", self._url.port, timeout=self._timeout_s
        )
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        body = json.dumps(event.document(), ensure_ascii=False).encode()
        try:
            connection.request("POST", target, body, {**self._headers, "Idempotency-Key": event.id})
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP: {type(error).__name__}") from error
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise OSError(f"expected status 2xx, got {status}")

    def close(self) -> None:
        """Nothing is open."""


class Outlet:
    """A sink, its thread and what waits for it: a thousand events.

    With a journal nothing that it holds is lost: what an earlier run did not send comes first, and
    what is more than a thousand is fetched from there in its turn. Without one the oldest is
    dropped.
    """

    def __init__(self, sink: Sink, journal: Journal | None = None) -> None:
        self.sink, self.journal = sink, journal
        self.sent = self.dropped = 0
        self.error: str | None = None
        """Why the newest attempt failed; None once one succeeds."""
        self._waiting: deque[Event] = deque()
        self._fetched: frozenset[str] = frozenset()
        """Ids of what came from the journal last."""
        self._more = journal is not None
        """Whether the journal holds what is not among those that wait."""
        self._changed = threading.Condition()
        self._closed = self._hurried = False
        self._thread = threading.Thread(
            target=self._run, name=f"miloco-edge sink {sink.name}", daemon=True
        )
        self._thread.start()

    def put(self, event: Event) -> None:
        """Have it sent, in order."""
        with self._changed:
            if self.journal is None or not (self._more or event.id in self._fetched):
                self._waiting.append(event)
            if len(self._waiting) > _WAITING:
                if self.journal is None:
                    self._waiting.popleft()
                    self.dropped += 1
                else:
                    self._waiting.pop()
                    self._more = True
            self._changed.notify_all()

    def hurry(self) -> None:
        """Try again now what is to be tried again later: the sink can be reached."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def close(self, timeout_s: float = 0.5) -> None:
        """Send what can be sent in time, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.sink.close()
        if self._waiting:
            kept = "" if self.journal is None else "; the next start sends them"
            log.warning(
                "sink %s: %d events were not sent%s", self.sink.name, len(self._waiting), kept
            )

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                if failures:
                    wait = _BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1]
                    self._changed.wait_for(lambda: self._closed or self._hurried, wait)
                    self._hurried = False
                else:
                    if not self._waiting:
                        self._fetch()
                    self._changed.wait_for(lambda: self._closed or self._waiting)
                if not self._waiting or (self._closed and failures):
                    break
                event = self._waiting[0]
            try:
                self.sink.send(event)
            except OSError as error:
                failures += 1
                if self.error is None:
                    log.warning("sink %s: %s; tried again later", self.sink.name, error)
                self.error = str(error)
                continue
            except Exception as error:  # one event that cannot be sent must not stop the others
                log.exception("sink %s: event %s is dropped", self.sink.name, event.id)
                self.error = f"{type(error).__name__}: {error}"
            else:
                self.sent += 1
                self.error = None
            failures = 0
            if self.journal is not None:
                self.journal.settled(self.sink.name, event)
            with self._changed:
                if self._waiting and self._waiting[0] is event:
                    self._waiting.popleft()
        self.sink.close()

    def _fetch(self) -> None:
        if self.journal is not None and self._more:
            self._waiting.extend(self.journal.owed(self.sink.name, _WAITING))
            self._fetched = frozenset(event.id for event in self._waiting)
            self._more = len(self._waiting) == _WAITING
