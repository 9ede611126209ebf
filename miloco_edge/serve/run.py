"""Running the server: uvicorn, with patience for nobody who sends no request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from miloco_edge.serve.app import drain
from miloco_edge.serve.settings import Limits
from miloco_edge.serve.systemd import service

_PATIENCE_S = 10.0
"""Longest that the loop may take to get round to the watchdog."""


def run(
    app: Starlette,
    *,
    host: str,
    port: int,
    limits: Limits,
    drain_s: float = 30.0,
    certificate: Path | None = None,
    key: Path | None = None,
    listening: Callable[[str], None] = lambda address: None,
    alive: Callable[[], object] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then let those who are being answered end, and go.

    `listening` is called with the address once connections are taken. `alive` raises or hangs
    where what is served does not go on, so that systemd's watchdog ends it. Raises OSError where
    the address cannot be had.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_patient(limits.header_s),
        ws="none",
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=int(drain_s),
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    taken = _bind(host, port)
    try:
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if certificate is None else "https"
        address = f"{scheme}://{shown}:{taken.getsockname()[1]}"
        _Server(config, app, lambda: listening(address), alive).run(sockets=[taken])
    finally:
        taken.close()


def _bind(host: str, port: int) -> socket.socket:
    kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    taken = socket.socket(kind, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    return taken


class _Server(uvicorn.Server):
    """Says when it listens, and sends away who waits when it is told to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Starlette,
        begun: Callable[[], None],
        alive: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._app, self._begun, self._alive = app, begun, alive
        self._service = ExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        if self.started:
            self._begun()
            loop = asyncio.get_running_loop()

            def alive() -> None:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(_PATIENCE_S)
                self._alive()

            self._service.enter_context(service(alive))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, after sending away who waits."""
        self._service.close()
        drain(self._app)
        await super().shutdown(sockets)


def _patient(header_s: float) -> type[H11Protocol]:
    """uvicorn's protocol, which by itself waits for the head of a request for ever."""

    class Patient(H11Protocol):
        """Hangs up on a connection that sends no whole head in time."""

        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect()

        def data_received(self, data: bytes) -> None:
            if self._idle:
                self._expect()
            super().data_received(data)
            if not self._idle and self._late is not None:
                self._late.cancel()
                self._late = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._late is not None:
                self._late.cancel()
            super().connection_lost(exc)

        @property
        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _expect(self) -> None:
            if self._late is None:
                self._late = self.loop.call_later(header_s, self._give_up)

        def _give_up(self) -> None:
            self._late = None
            if self._idle and not self.transport.is_closing():
                self.transport.close()

    return Patient
