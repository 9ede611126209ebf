"""JSON over HTTP, with a deadline and a way to stop. Follows no redirect and asks no proxy."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.parse
from contextlib import suppress
from typing import Any

from miloco_edge.errors import EngineDownError, EngineError

_MOST_BYTES = 16 << 20


def is_remote(ref: str) -> bool:
    """Whether a model reference is the address of a server."""
    return ref.startswith(("http://", "https://"))


class Server:
    """The base address of an OpenAI-compatible server, such as http://box:8000/v1."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        split = urllib.parse.urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise ValueError(f"Server: expected http(s)://HOST[:PORT]/v1, got {split.scheme!r}")
        self.shown = f"{split.scheme}://{split.hostname}" + (f":{split.port}" if split.port else "")
        """Without what may be a secret."""
        self._split = split
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def call(self) -> Call:
        """A request to come."""
        return Call(self)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A new connection, not opened yet."""
        host, port = self._split.hostname or "", self._split.port
        if self._split.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout_s)
        return http.client.HTTPConnection(host, port, timeout=timeout_s)

    def target(self, path: str) -> str:
        """The path of a route on the wire."""
        return self._split.path.rstrip("/") + path

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return self._headers


class Call:
    """Requests one after another, which may be cancelled from any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        # The connection forgets its own as soon as the answer begins, where it is the last.
        self._socket: socket.socket | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Stop what is under way and what comes."""
        with self._lock:
            self.cancelled = True
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def json(self, method: str, path: str, body: Any = None, *, timeout_s: float) -> dict[str, Any]:
        """Request and read a JSON object within `timeout_s` seconds.

        Raises TimeoutError where time ran out, EngineDownError where nobody answers or the server
        is in trouble (5xx, 429), EngineError where it refuses.
        """
        end = time.monotonic() + timeout_s
        connection = self._server.connection(max(timeout_s, 0.001))
        alarm: threading.Timer | None = None
        try:
            connection.connect()
            with self._lock:
                if self.cancelled:
                    raise TimeoutError("cancelled")
                self._socket = connection.sock
            # Each wait has its own limit; a server that sends a little now and then keeps them all.
            alarm = threading.Timer(max(end - time.monotonic(), 0.0), self._hang_up)
            alarm.daemon = True
            alarm.start()
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, self._server.target(path), data, self._server.headers)
            connection.sock.settimeout(max(end - time.monotonic(), 0.001))
            response = connection.getresponse()
            read = response.read(_MOST_BYTES)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            self._check(end)
            raise self._down(f"{type(error).__name__}: {error}") from error
        finally:
            if alarm is not None:
                alarm.cancel()
            with self._lock:
                self._socket = None
            connection.close()
        self._check(end)
        if response.status >= 500 or response.status == 429:
            raise self._down(f"status {response.status}")
        if response.status != 200:
            said = read[:200].decode(errors="replace")
            raise EngineError(
                f"{self._server.shown}: expected status 200, got {response.status}: {said}",
                hint="check the address (it ends in /v1), the key and that the server takes images",
            )
        try:
            found = json.loads(read)
        except ValueError as error:
            raise self._down("what it says is not JSON") from error
        if not isinstance(found, dict):
            raise self._down("what it says is not a JSON object")
        return found

    def _check(self, end: float) -> None:
        """What was hung up on is no answer, whatever of it was there."""
        if self.cancelled:
            raise TimeoutError("cancelled")
        if time.monotonic() >= end:
            raise TimeoutError("time ran out")

    def _down(self, cause: str) -> EngineDownError:
        return EngineDownError(
            f"{self._server.shown}: {cause}", hint="check that the server runs and is reachable"
        )
