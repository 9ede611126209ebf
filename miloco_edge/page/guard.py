"""A browser that shows the page talks to this machine alone, and no other page talks to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from miloco_edge.hosts import is_local, named

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Gradio's own code needs inline scripts and eval; nothing may come from, or go to, elsewhere.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'self'; object-src 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_WRONG_HOST = b"expected this machine's own name as Host; --host opens the page to others"
_CROSS_ORIGIN = b"expected a request of the page itself; those of other sites are not answered"


class Guard:
    """ASGI middleware: what a browser is told and, on a page for this machine alone, who may ask.

    A page of elsewhere whose name suddenly means this machine (DNS rebinding) still sends that
    name as `Host`, and one that sends a request here its own name as `Origin`; both are refused.
    Gradio lets any origin read what it likes where it is not called localhost.
    """

    def __init__(self, app: App, *, local: bool) -> None:
        self._app, self._local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if self._local and not is_local(named(host)):
            await _refuse(scope, send, 421, _WRONG_HOST)
            return
        if origin and origin.partition("://")[2] != host:
            await _refuse(scope, send, 403, _CROSS_ORIGIN)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers)


async def _refuse(scope: Scope, send: Send, status: int, body: bytes) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
