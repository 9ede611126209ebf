"""Between HTTP and the routes: bodies within bounds, errors in each dialect's shape, leaving."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from miloco_edge.serve.access import Access, Scope, allow
from miloco_edge.serve.answering import Serving
from miloco_edge.serve.refusal import Refusal, bad_request, refusal_of

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Dialect = Literal["openai", "ollama", "miloco"]
Route = Callable[[Request, Serving], Awaitable[Response]]

_LEFT = 499
"""nginx's status for a client that left; nobody reads it."""


class Left(Exception):
    """The client is gone."""


def endpoint(
    route: Route, scope: Scope | None, dialect: Dialect = "openai"
) -> Callable[[Request], Awaitable[Response]]:
    """A route behind the door: key and scope first, errors in the dialect's shape, counted."""

    async def call(request: Request) -> Response:
        serving: Serving = request.app.state.serving
        access: Access = request.app.state.access
        began = time.monotonic()
        try:
            access.check_origin(request.headers)
            if scope is not None:
                allow(access.key(request.headers), scope)
            response = await route(request, serving)
        except (Left, ClientDisconnect):
            response = Response(status_code=_LEFT)
        except Exception as error:
            response = refused(refusal_of(error), dialect)
        path = getattr(request.scope.get("route"), "path", "")
        serving.metrics.requests.labels(path, str(response.status_code)).inc()
        serving.metrics.duration.observe(time.monotonic() - began)
        return response

    return call


def refused(refusal: Refusal, dialect: Dialect = "openai") -> JSONResponse:
    """A refusal as clients of a dialect read it."""
    return JSONResponse(refusal_document(refusal, dialect), refusal.status, refusal.headers)


def refusal_document(refusal: Refusal, dialect: Dialect = "openai") -> dict[str, Any]:
    """The document of a refusal."""
    if dialect == "ollama":
        return {"error": refusal.message}
    if dialect == "miloco":
        code = 2001 if refusal.status == 503 else 3100 if refusal.status < 500 else 9000
        return {"code": code, "message": refusal.message, "data": None}
    return {
        "error": {
            "message": refusal.message,
            "type": refusal.kind,
            "param": refusal.param,
            "code": refusal.code,
        }
    }


async def read(request: Request, kind: type[M], serving: Serving) -> M:
    """The body as `kind`. Raises Refusal, in words that repeat nothing of it."""
    body = await _body(request, serving)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"] if _known(kind, step))
        if first["type"] == "json_invalid":
            raise bad_request("json", "expected a body of JSON") from None
        raise bad_request(
            "invalid", f"expected another value of {where or 'the body'} ({first['type']})", where
        ) from None


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do some work while the client is there; raise Left, and stop the work, when it leaves."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([doing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise Left
    finally:
        leaving.cancel()
        if not doing.done():
            doing.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await doing


async def streamed(
    request: Request,
    documents: AsyncGenerator[dict[str, Any]],
    dialect: Dialect,
    *,
    media_type: str,
    write: Callable[[dict[str, Any]], bytes],
    last: bytes = b"",
    first_is_early: bool = False,
) -> Response:
    """A stream of documents. What goes wrong before the model speaks is still a status.

    `first_is_early`: the first document is made before anything is asked, and the second counts.
    """
    ready: list[dict[str, Any]] = []

    async def begin() -> None:
        for _ in range(2 if first_is_early else 1):
            async for document in documents:
                ready.append(document)
                break

    await unless_gone(request, begin())

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(documents):
            for document in ready:
                yield write(document)
            try:
                async for document in documents:
                    yield write(document)
            except Exception as error:
                yield write(refusal_document(refusal_of(error), dialect))
            yield last

    return StreamingResponse(body(), media_type=media_type, headers={"Cache-Control": "no-store"})


def event(document: dict[str, Any]) -> bytes:
    """A document as a server-sent event."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def line(document: dict[str, Any]) -> bytes:
    """A document as a line of JSON."""
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


async def _body(request: Request, serving: Serving) -> bytes:
    most = serving.limits.body_bytes
    too_large = Refusal(413, "body_too_large", f"expected a body of at most {most} bytes")
    stated = request.headers.get("content-length", "0")
    if not stated.isdigit() or int(stated) > most:
        raise too_large
    body = bytearray()

    async def arrive() -> None:
        async for piece in request.stream():
            if len(body) + len(piece) > most:
                raise too_large
            body.extend(piece)

    try:
        await asyncio.wait_for(arrive(), serving.limits.body_s)
    except TimeoutError:
        raise Refusal(408, "body_too_slow", "expected the body sooner") from None
    return bytes(body)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _known(kind: type[BaseModel], step: int | str) -> bool:
    """Whether a step to a fault is ours to name: a field or a number, not a client's own key."""
    return isinstance(step, int) or step in _names(kind)


def _names(kind: type[BaseModel]) -> set[str]:
    text = json.dumps(kind.model_json_schema())
    return {word for word in text.split('"')[1::2] if word.isidentifier()}
