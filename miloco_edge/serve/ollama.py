"""Enough of Ollama's API for Home Assistant's AI Task, and for whoever else speaks it.

Requests become OpenAI's and take the same way; answers are written as Ollama's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from miloco_edge import Piece
from miloco_edge.serve.answering import Serving, Wanted, answer
from miloco_edge.serve.chat import whole_answer
from miloco_edge.serve.chat_reply import Collected, prompt_s
from miloco_edge.serve.chat_request import ChatRequest, ToolCall, ToolParam, Wire
from miloco_edge.serve.chat_wanted import offered, wanted
from miloco_edge.serve.http import line, read, streamed, unless_gone
from miloco_edge.serve.refusal import Refusal, bad_request
from miloco_edge.types import Answer

SPOKEN = "0.12.0"
"""The version of Ollama whose API this is a part of; some clients ask for one."""


class Options(Wire):
    """Those of Ollama's options that count here."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    stop: list[str] | str | None = None


class OllamaMessage(Wire):
    """One message; pictures are bare base64."""

    role: str
    content: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None


class Common(Wire):
    """What chat and generate share."""

    model: str = ""
    stream: bool | None = True
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    think: bool | str | None = None
    keep_alive: Any = None
    """Accepted; the model stays loaded."""


class OllamaChat(Common):
    """POST /api/chat."""

    messages: list[OllamaMessage] = Field(default_factory=list)
    tools: list[ToolParam] | None = None


class OllamaGenerate(Common):
    """POST /api/generate."""

    prompt: str = ""
    system: str | None = None
    images: list[str] | None = None


class Named(Wire):
    """POST /api/show and /api/pull."""

    model: Annotated[str, Field(max_length=256)] = ""
    name: Annotated[str, Field(max_length=256)] = ""
    """As older clients call it."""
    stream: bool | None = True


async def ollama_version(_: Request, __: Serving) -> Response:
    """GET /api/version."""
    return JSONResponse({"version": SPOKEN})


async def tags(_: Request, serving: Serving) -> Response:
    """GET /api/tags: the one model."""
    return JSONResponse({"models": [_tag(serving)]})


async def running(_: Request, serving: Serving) -> Response:
    """GET /api/ps: the model while it is in memory."""
    if serving.state != "ready":
        return JSONResponse({"models": []})
    facts = serving.facts
    never = datetime.now(UTC) + timedelta(days=36500)
    return JSONResponse(
        {
            "models": [
                {
                    **_tag(serving),
                    "expires_at": never.isoformat(),
                    "size_vram": 0,
                    "context_length": facts.context,
                }
            ]
        }
    )


async def show(request: Request, serving: Serving) -> Response:
    """POST /api/show: what the model can do."""
    _known(await read(request, Named, serving), serving)
    facts = serving.facts
    tag = _tag(serving)
    return JSONResponse(
        {
            "modified_at": tag["modified_at"],
            "details": tag["details"],
            "modelfile": "",
            "template": "",
            "parameters": f"temperature {facts.sampling.temperature}",
            "license": "",
            "model_info": {
                "general.architecture": "qwen2vl",
                "general.basename": facts.name,
                "qwen2vl.context_length": facts.context,
            },
            "capabilities": ["completion", "vision", "tools"]
            + (["thinking"] if facts.thinks else []),
        }
    )


async def pull(request: Request, serving: Serving) -> Response:
    """POST /api/pull: nothing is fetched; the model that is here is here."""
    asked = await read(request, Named, serving)
    _known(asked, serving)
    document = {"status": "success"}
    if asked.stream is False:
        return JSONResponse(document)
    return Response(line(document), media_type="application/x-ndjson")


async def ollama_chat(request: Request, serving: Serving) -> Response:
    """POST /api/chat."""
    asked = await read(request, OllamaChat, serving)
    if not asked.messages:
        return _nothing_asked(serving, {"message": {"role": "assistant", "content": ""}})
    messages = [
        {
            "role": message.role,
            "content": _content(message.content, message.images),
            "tool_calls": [call.model_dump() for call in message.tool_calls or ()] or None,
        }
        for message in asked.messages
    ]
    tools = [tool.model_dump() for tool in asked.tools or ()] or None
    return await _answered(request, serving, asked, messages, tools, _Chat())


async def generate(request: Request, serving: Serving) -> Response:
    """POST /api/generate."""
    asked = await read(request, OllamaGenerate, serving)
    if not asked.prompt and not asked.images:
        return _nothing_asked(serving, {"response": ""})
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": _content(asked.prompt, asked.images)}
    ]
    if asked.system:
        messages.insert(0, {"role": "system", "content": asked.system})
    return await _answered(request, serving, asked, messages, None, _Generate())


class _Chat:
    """How /api/chat says things."""

    def part(self, delta: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": delta.get("content", "")}
        if "reasoning_content" in delta:
            message["thinking"] = delta["reasoning_content"]
        if "tool_calls" in delta:
            message["tool_calls"] = delta["tool_calls"]
        return {"message": message}


class _Generate:
    """How /api/generate says things."""

    def part(self, delta: dict[str, Any]) -> dict[str, Any]:
        said = {"response": delta.get("content", "")}
        if "reasoning_content" in delta:
            said["thinking"] = delta["reasoning_content"]
        return said


async def _answered(
    request: Request,
    serving: Serving,
    asked: Common,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    shape: _Chat | _Generate,
) -> Response:
    translated = _translated(asked, messages, tools)
    want = wanted(serving, translated)
    collected = Collected(bool(offered(translated)))
    if asked.stream is not False:
        return await streamed(
            request,
            _lines(serving, want, collected, shape),
            "ollama",
            media_type="application/x-ndjson",
            write=line,
        )
    whole = await unless_gone(request, whole_answer(serving, want, collected))
    delta: dict[str, Any] = {"content": collected.content}
    if collected.reasoning.strip():
        delta["reasoning_content"] = collected.reasoning.strip()
    if collected.calls:
        delta["tool_calls"] = _calls(collected)
    return JSONResponse(_document(serving, shape.part(delta), whole))


async def _lines(
    serving: Serving, want: Wanted, collected: Collected, shape: _Chat | _Generate
) -> AsyncGenerator[dict[str, Any]]:
    async with aclosing(answer(serving, want)) as parts:
        async for part in parts:
            told = len(collected.calls)
            delta = collected.take(part) if isinstance(part, Piece) else collected.end(part)
            if "tool_calls" in delta:
                delta["tool_calls"] = _calls(collected)[told:]
            if delta:
                yield _document(serving, shape.part(delta))
            if isinstance(part, Answer):
                yield _document(serving, shape.part({}), part)


def _translated(
    asked: Common, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> ChatRequest:
    """Ollama's request as OpenAI's. Raises Refusal."""
    options = asked.options or Options()
    body: dict[str, Any] = {
        "messages": messages,
        "tools": tools,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "stop": options.stop,
        "max_tokens": options.num_predict if (options.num_predict or 0) > 0 else None,
    }
    if isinstance(asked.think, str):
        body["reasoning_effort"] = asked.think
    elif asked.think is not None:
        body["thinking"] = asked.think
    if asked.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif isinstance(asked.format, dict):
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": asked.format}}
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise bad_request(
            "invalid", f"expected another value of {first['loc'][0]} ({first['type']})"
        ) from None


def _content(text: str | None, images: list[str] | None) -> list[dict[str, Any]] | str:
    if not images:
        return text or ""
    pictures = [{"type": "image_url", "image_url": image} for image in images]
    return [*pictures, {"type": "text", "text": text or ""}]


def _document(
    serving: Serving, said: dict[str, Any], whole: Answer | None = None
) -> dict[str, Any]:
    document = {
        "model": _tag_name(serving),
        "created_at": datetime.now(UTC).isoformat(),
        **said,
        "done": whole is not None,
    }
    if whole is None:
        return document
    used, times = whole.usage, whole.timings
    return {
        **document,
        "done_reason": "stop" if whole.finish_reason == "stop" else "length",
        "total_duration": _ns(times.total_s),
        "load_duration": 0,
        "prompt_eval_count": used.prompt_tokens,
        "prompt_eval_duration": _ns(prompt_s(times)),
        "eval_count": used.completion_tokens,
        "eval_duration": _ns(times.generate_s),
    }


def _calls(collected: Collected) -> list[dict[str, Any]]:
    return [
        {"function": {"name": call.name, "arguments": call.arguments}} for call in collected.calls
    ]


def _nothing_asked(serving: Serving, said: dict[str, Any]) -> Response:
    """How Ollama's clients have a model loaded beforehand."""
    serving.check_ready()
    return JSONResponse({**_document(serving, said), "done_reason": "load", "done": True})


def _tag_name(serving: Serving) -> str:
    """The model's name with a tag, without which Ollama's clients add :latest themselves."""
    name = serving.facts.name
    return name if ":" in name else f"{name}:latest"


def _tag(serving: Serving) -> dict[str, Any]:
    facts = serving.facts
    return {
        "name": _tag_name(serving),
        "model": _tag_name(serving),
        "modified_at": datetime.fromtimestamp(facts.created, UTC).isoformat(),
        "size": facts.size_bytes,
        "digest": facts.sha256,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "qwen2vl",
            "families": ["qwen2vl"],
            "parameter_size": "",
            "quantization_level": facts.file_type,
        },
    }


def _known(asked: Named, serving: Serving) -> None:
    name = asked.model or asked.name
    known = {serving.facts.name, _tag_name(serving), *serving.facts.aliases}
    if name not in known:
        raise Refusal(404, "model_not_found", "model not found: this server has one of its own")


def _ns(seconds: float | None) -> int:
    return int((seconds or 0.0) * 1e9)
