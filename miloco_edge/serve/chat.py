"""POST /v1/chat/completions."""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from miloco_edge import Piece
from miloco_edge.serve.answering import Serving, Wanted, answer
from miloco_edge.serve.chat_reply import Collected, Reply, chunks
from miloco_edge.serve.chat_request import ChatRequest
from miloco_edge.serve.chat_wanted import offered, wanted
from miloco_edge.serve.http import event, read, streamed, unless_gone
from miloco_edge.types import Answer, Layout


async def chat(request: Request, serving: Serving) -> Response:
    """Answer a conversation, whole or as it comes."""
    asked = await read(request, ChatRequest, serving)
    want = wanted(serving, asked)
    reply = Reply(
        serving.facts.name, layout_of(want), bool(asked.logprobs), asked.top_logprobs or 0
    )
    collected = Collected(bool(offered(asked)), asked.parallel_tool_calls is not False)
    if not asked.stream:
        whole = await unless_gone(request, whole_answer(serving, want, collected))
        return JSONResponse(reply.whole(collected, whole))
    options = asked.stream_options
    include_usage = options is not None and bool(options.include_usage)
    parts = answer(serving, want)
    return await streamed(
        request,
        chunks(reply, collected, parts, include_usage=include_usage),
        "openai",
        media_type="text/event-stream",
        write=event,
        last=b"data: [DONE]\n\n",
        first_is_early=True,
    )


async def whole_answer(serving: Serving, want: Wanted, collected: Collected) -> Answer:
    """The whole of an answer. Raises as `answer` does."""
    whole: Answer | None = None
    async with aclosing(answer(serving, want)) as parts:
        async for part in parts:
            if isinstance(part, Piece):
                collected.take(part)
            else:
                whole = part
                collected.end(part)
    assert whole is not None
    return whole


def layout_of(want: Wanted) -> Layout:
    """Whether what is shown counts as video."""
    media = want.conversation.media
    if len(media) == 1 and media[0].kind != "picture":
        return "video"
    return want.layout
