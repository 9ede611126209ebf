"""POST /v1/decide: pictures or a video and rules in, decisions out. Ours."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from miloco_edge.serve.answering import Serving, decide
from miloco_edge.serve.chat_request import Address, Fps, Wire
from miloco_edge.serve.chat_wanted import check_length, frames
from miloco_edge.serve.http import read, unless_gone
from miloco_edge.serve.media import Medium, Remote, medium
from miloco_edge.serve.refusal import Refusal, bad_request
from miloco_edge.types import Layout


class DecideRequest(Wire):
    """One of `video`, `frames`, `images`, each by value, and the rules."""

    rules: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    video: Address | str | None = None
    frames: list[str] | None = None
    images: list[Address | str] | None = None
    fps: Fps | None = None
    layout: Layout | None = None
    visual_tokens: Annotated[int, Field(ge=4)] | None = None
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None


async def decisions(request: Request, serving: Serving) -> Response:
    """Decide all rules on one look."""
    asked = await read(request, DecideRequest, serving)
    limits = serving.limits
    if len(asked.rules) > limits.rules:
        raise Refusal(413, "rules_too_many", f"expected at most {limits.rules} rules")
    check_length(limits, asked.rules)
    visual_tokens = asked.visual_tokens
    seen = await unless_gone(
        request,
        decide(
            serving,
            _media(asked),
            asked.rules,
            layout=asked.layout or "images",
            fps=asked.fps,
            visual_tokens=visual_tokens and min(visual_tokens, limits.visual_tokens),
            priority=asked.priority or 0,
            seconds=asked.deadline_s,
        ),
    )
    return JSONResponse(
        {
            "object": "decisions",
            "model": serving.facts.name,
            "decisions": [asdict(decision) for decision in seen.decisions],
            "usage": asdict(seen.usage),
            "timings": asdict(seen.timings),
            "degraded": None if seen.degraded is None else asdict(seen.degraded),
        }
    )


def _media(asked: DecideRequest) -> list[Medium | Remote]:
    given = [each for each in (asked.video, asked.frames, asked.images) if each]
    if len(given) != 1:
        raise bad_request("no_media", "expected one of video, frames or images")
    if asked.video:
        own = asked.video.fps if isinstance(asked.video, Address) else None
        return [medium("video", _url(asked.video), own or asked.fps, where="video")]
    if asked.frames:
        return [frames(asked.frames, asked.fps, "frames")]
    return [medium("picture", _url(image), where="images") for image in asked.images or ()]


def _url(value: Address | str) -> str:
    return value if isinstance(value, str) else value.url
