"""The server: its routes, and its life from loading to drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from miloco_edge.engine.protocol import WindowEngine
from miloco_edge.errors import ClosedError, MilocoEdgeError
from miloco_edge.hub.hub import Hub
from miloco_edge.serve.access import Access
from miloco_edge.serve.answering import Serving
from miloco_edge.serve.chat import chat
from miloco_edge.serve.decide import decisions
from miloco_edge.serve.decoder import Decoders
from miloco_edge.serve.events import events, evidence
from miloco_edge.serve.fetch import Fetcher
from miloco_edge.serve.http import endpoint, refused
from miloco_edge.serve.metrics import Metrics
from miloco_edge.serve.miloco import (
    cuda_info,
    descriptions,
    load,
    one_description,
    root,
    unload,
)
from miloco_edge.serve.models import health, metrics, model, models, props
from miloco_edge.serve.ollama import (
    generate,
    ollama_chat,
    ollama_version,
    pull,
    running,
    show,
    tags,
)
from miloco_edge.serve.openapi import openapi
from miloco_edge.serve.refusal import Refusal
from miloco_edge.serve.settings import Limits, ModelFacts
from miloco_edge.serve.turns import Turns

log = logging.getLogger(__name__)


def create_app(
    engine: WindowEngine,
    facts: ModelFacts,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    fetcher: Fetcher | None = None,
    hub: Hub | None = None,
) -> Starlette:
    """The ASGI application over an engine, which it loads when it starts and closes at its end.

    With a hub, the hub's own engine, and the hub is started and closed with the server.
    """
    limits = limits or Limits()

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        serving = Serving(
            engine,
            facts,
            limits,
            Turns(engine.slots, limits.waiting),
            Decoders(limits),
            fetcher or Fetcher(),
            Metrics(facts),
            hub,
        )
        app.state.serving = serving
        loading = asyncio.create_task(_load(serving))
        try:
            yield
        finally:
            drain(app)
            serving.decoders.close()
            await asyncio.to_thread(engine.close if hub is None else hub.close)
            with suppress(asyncio.CancelledError):
                await loading

    app = Starlette(
        routes=routes(),
        lifespan=life,
        exception_handlers={HTTPException: _no_route},
    )
    app.state.access = access or Access()
    return app


def routes() -> list[Route]:
    """All routes."""
    return [
        Route("/health", endpoint(health, None)),
        Route("/v1/health", endpoint(health, None)),
        Route("/openapi.json", endpoint(openapi, "read")),
        Route("/metrics", endpoint(metrics, "read")),
        Route("/props", endpoint(props, "read")),
        Route("/v1/models", endpoint(models, "read")),
        Route("/v1/models/{name:path}", endpoint(model, "read")),
        Route("/v1/chat/completions", endpoint(chat, "ask"), methods=["POST"]),
        Route("/chat/completions", endpoint(chat, "ask"), methods=["POST"]),
        Route("/v1/decide", endpoint(decisions, "ask"), methods=["POST"]),
        Route("/v1/events", endpoint(events, "watch")),
        Route("/v1/events/{id}/picture", endpoint(evidence, "watch")),
        Route("/api/version", endpoint(ollama_version, "read", "ollama")),
        Route("/api/tags", endpoint(tags, "read", "ollama")),
        Route("/api/ps", endpoint(running, "read", "ollama")),
        Route("/api/show", endpoint(show, "read", "ollama"), methods=["POST"]),
        Route("/api/pull", endpoint(pull, "read", "ollama"), methods=["POST"]),
        Route("/api/chat", endpoint(ollama_chat, "ask", "ollama"), methods=["POST"]),
        Route("/api/generate", endpoint(generate, "ask", "ollama"), methods=["POST"]),
        Route("/", endpoint(root, "read", "miloco")),
        Route("/models", endpoint(descriptions, "read", "miloco")),
        Route("/models/load", endpoint(load, "admin", "miloco"), methods=["POST"]),
        Route("/models/unload", endpoint(unload, "admin", "miloco"), methods=["POST"]),
        Route("/models/{name:path}", endpoint(one_description, "read", "miloco")),
        Route("/cuda_info", endpoint(cuda_info, "read", "miloco")),
    ]


def drain(app: Starlette) -> None:
    """Send away all who wait or listen; those whose turn it is may end."""
    serving: Serving | None = getattr(app.state, "serving", None)
    if serving is not None:
        serving.turns.close()
        for listener in list(serving.listeners):
            listener.cancel()


async def _load(serving: Serving) -> None:
    if serving.hub is not None:
        await asyncio.to_thread(serving.hub.start)
    warm = asyncio.create_task(serving.decoders.warm())
    try:
        await asyncio.to_thread(serving.engine.load)
    except ClosedError:
        log.info("the server ends before the model is loaded")
    except MilocoEdgeError as error:
        log.error("the model could not be loaded: %s", error)
    finally:
        serving.begun.set()
    await warm


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {
        404: ("not_found", "no such route"),
        405: ("method", "another method is expected"),
    }
    status = error.status_code
    return refused(Refusal(status, *words.get(status, ("refused", "the request is refused"))))
