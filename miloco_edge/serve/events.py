"""GET /v1/events: what the hub tells, as server-sent events, and the pictures it rests on."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from miloco_edge.errors import NotFoundError
from miloco_edge.hub.event import Event
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from miloco_edge.serve.answering import Serving
from miloco_edge.serve.refusal import Refusal

_ID = re.compile(r"[0-9a-f]{16}")
_SILENCE_S = 15.0
"""A comment after so long a silence, so that what is in between keeps the connection."""
_MISSED = 1000
"""Most events that are told again to one who comes back."""


async def events(request: Request, serving: Serving) -> Response:
    """Follow the hub's events; `camera` and `rule` choose.

    A client that comes back with Last-Event-ID is told what it missed, as far as the journal holds.
    """
    hub = _hub(serving)
    if len(serving.listeners) >= serving.limits.listeners:
        raise Refusal(429, "busy", "too many follow the events", retry_after_s=30)
    camera, rule = request.query_params.get("camera"), request.query_params.get("rule")
    last = request.headers.get("last-event-id")
    return StreamingResponse(
        _stream(serving, hub, camera, rule, last),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def evidence(request: Request, serving: Serving) -> Response:
    """GET /v1/events/ID/picture: the last frame of the window that an event rests on."""
    hub, number = _hub(serving), request.path_params["id"]
    path = hub.journal.evidence / f"{number}.jpg"
    if _ID.fullmatch(number) is None or not path.is_file():
        raise Refusal(404, "not_found", "no picture of that event is kept")
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _hub(serving: Serving) -> Hub:
    if serving.hub is None:
        raise Refusal(404, "no_hub", "no cameras are watched here: serve with --config home.toml")
    return serving.hub


async def _stream(
    serving: Serving, hub: Hub, camera: str | None, rule: str | None, last: str | None
) -> AsyncIterator[bytes]:
    told: asyncio.Queue[Event | None] = asyncio.Queue()

    async def follow() -> None:
        async for event in hub.events():
            told.put_nowait(event)

    following = asyncio.create_task(follow())
    following.add_done_callback(lambda _: told.put_nowait(None))
    serving.listeners.add(following)
    again: set[str] = set()
    try:
        yield b": miloco-edge\n\n"
        if last is not None:
            for document in await asyncio.to_thread(_missed, hub, last):
                again.add(document["id"])  # one that came meanwhile is in both
                if _chosen(document, camera, rule):
                    yield _written(document)
        while True:
            try:
                event = await asyncio.wait_for(told.get(), _SILENCE_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if event is None:
                return
            document = event.document(hub.home.time_zone)
            if document["id"] not in again and _chosen(document, camera, rule):
                yield _written(document)
    finally:
        following.cancel()
        serving.listeners.discard(following)


def _missed(hub: Hub, last: str) -> list[dict[str, Any]]:
    """The events after the one with that id, oldest first; all that are held if it is not."""
    with suppress(NotFoundError):
        held = list(query(hub.journal.path, limit=_MISSED))
        places = [i for i, document in enumerate(held) if document["id"] == last]
        return held[places[0] + 1 :] if places else held
    return []


def _chosen(document: dict[str, Any], camera: str | None, rule: str | None) -> bool:
    return camera in (None, document["camera"]) and rule in (None, document["rule"]["id"])


def _written(document: dict[str, Any]) -> bytes:
    shown = document["evidence"]["frame"] is not None
    address = f"/v1/events/{document['id']}/picture" if shown else None
    document = {**document, "evidence": {"frame": address}}
    data = json.dumps(document, ensure_ascii=False)
    return f"id: {document['id']}\nevent: {document['state']}\ndata: {data}\n\n".encode()
