"""From OpenAI's request to what the engine is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence

from miloco_edge.serve.answering import Serving, Wanted
from miloco_edge.serve.chat_request import (
    Address,
    ChatRequest,
    InputVideo,
    Message,
    Part,
    ResponseFormat,
    Thinking,
    ToolChoice,
)
from miloco_edge.serve.conversation import Role, Said, conversation
from miloco_edge.serve.grammar import calls_grammar, json_grammar
from miloco_edge.serve.media import Kind, Medium, Remote, medium
from miloco_edge.serve.refusal import Refusal, bad_request
from miloco_edge.serve.settings import Limits
from miloco_edge.serve.tools import Call, Tool, tools_text
from miloco_edge.types import Sampling

_EFFORT = {"minimal": 128, "low": 256, "medium": 1024, "high": 4096, "xhigh": 8192, "max": 8192}
_ANSWER_TOKENS = 512
_THINKING_TOKENS = 1024
_ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}
_AUDIO = {"input_audio", "audio", "audio_url"}


def wanted(serving: Serving, request: ChatRequest) -> Wanted:
    """What a request asks for, within the server's limits. Raises Refusal."""
    limits = serving.limits
    if len(request.messages) > limits.messages:
        raise _too_long(f"at most {limits.messages} messages")
    said = [_said(serving, message, i) for i, message in enumerate(request.messages)]
    tools = offered(request)
    spoken = conversation(said, tools_text(tools) if tools else None)
    history = [text for turn in spoken.history for text in (turn.question, turn.answer)]
    check_length(limits, [spoken.question, spoken.system or "", *history])
    think, thinking_tokens = thinking(request)
    grammar = _grammar(request, tools)
    if not serving.facts.here and grammar is not None:
        raise bad_request("unsupported", "expected no schema or required tool of a model elsewhere")
    answer_tokens, thinking_tokens = shares(
        _most_tokens(request), thinking_tokens if think else 0, limits
    )
    default = serving.facts.sampling
    stop = [request.stop] if isinstance(request.stop, str) else list(request.stop or ())
    if len(stop) > 16:
        raise bad_request("stop", "expected at most 16 stops", "stop")
    return Wanted(
        spoken,
        Sampling(
            default.temperature if request.temperature is None else request.temperature,
            default.top_p if request.top_p is None else request.top_p,
            request.seed,
            grammar,
        ),
        answer_tokens,
        think,
        thinking_tokens,
        tuple(filter(None, stop)),
        max(request.top_logprobs or 0, 1) if request.logprobs else 0,
        request.layout or "images",
        request.fps,
        min(request.visual_tokens or limits.visual_tokens, limits.visual_tokens)
        if request.visual_tokens
        else None,
        request.priority or 0,
        request.deadline_s,
    )


def offered(request: ChatRequest) -> list[Tool]:
    """The tools that the model may call."""
    if not request.tools or request.tool_choice == "none":
        return []
    return [
        Tool(tool.function.name, tool.function.description, tool.function.parameters)
        for tool in request.tools
    ]


def thinking(request: ChatRequest) -> tuple[bool, int]:
    """Whether to think, and for how many tokens at most: whichever way a client says so.

    Off unless it is asked for. Where a client says both, off counts.
    """
    template, switch = request.chat_template_kwargs, request.thinking
    budget = request.thinking_budget
    says: list[bool] = []
    if template is not None:
        if template.enable_thinking is not None:
            says.append(template.enable_thinking)
        budget = template.thinking_budget if budget is None else budget
    if isinstance(switch, bool):
        says.append(switch)
    elif isinstance(switch, Thinking):
        if switch.type is not None:
            says.append(switch.type in ("enabled", "adaptive"))
        budget = switch.budget_tokens if budget is None else budget
    if request.reasoning_effort is not None:
        says.append(request.reasoning_effort != "none")
        if budget is None and request.reasoning_effort != "none":
            budget = _EFFORT[request.reasoning_effort]
    think = bool(says) and all(says) and budget != 0
    return think, _THINKING_TOKENS if budget is None else budget


def shares(most: int | None, thinking_tokens: int, limits: Limits) -> tuple[int, int]:
    """Tokens for the answer and for thinking.

    `most` is for both together, as OpenAI has it: an answer of at least a quarter is kept free.
    """
    thinking_tokens = min(thinking_tokens, limits.thinking_tokens)
    if most is None:
        return min(_ANSWER_TOKENS, limits.answer_tokens), thinking_tokens
    thinking_tokens = min(thinking_tokens, most - max(1, most // 4))
    return min(most - thinking_tokens, limits.answer_tokens), thinking_tokens


def check_length(limits: Limits, texts: Sequence[str]) -> None:
    """Raise Refusal where texts are longer than the server reads."""
    if sum(map(len, texts)) > limits.text_chars:
        raise _too_long(f"at most {limits.text_chars} characters")


def frames(pictures: Sequence[str], fps: float | None, where: str) -> Medium:
    """Pictures by value as the frames of one video. Raises Refusal."""
    data: list[str] = []
    for picture in pictures:
        found = medium("picture", picture, where=where)
        if not isinstance(found, Medium) or len(found.data) != 1:
            raise bad_request("media_refused", "expected frames by value", where)
        data += found.data
    if not data:
        raise bad_request("part", "expected frames", where)
    return Medium("frames", tuple(data), fps)


def _most_tokens(request: ChatRequest) -> int | None:
    if request.max_completion_tokens is not None:
        return request.max_completion_tokens
    # llama-server's clients say -1 for "no limit of mine".
    return request.max_tokens if request.max_tokens and request.max_tokens > 0 else None


def _grammar(request: ChatRequest, tools: list[Tool]) -> str | None:
    choice = request.tool_choice
    if isinstance(choice, ToolChoice):
        tools = [tool for tool in tools if tool.name == choice.function.name]
        if not tools:
            raise bad_request("tool_choice", "expected one of the tools", "tool_choice")
        return calls_grammar([(tool.name, tool.parameters) for tool in tools])
    if choice == "required":
        if not tools:
            raise bad_request("tool_choice", "expected tools to choose from", "tools")
        return calls_grammar([(tool.name, tool.parameters) for tool in tools])
    return None if request.response_format is None else _format_grammar(request.response_format)


def _format_grammar(wanted: ResponseFormat) -> str | None:
    if wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return json_grammar(wanted.schema_)
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise bad_request("schema", "expected a schema", "response_format.json_schema.schema")
    return json_grammar(wanted.json_schema.schema_)


def _said(serving: Serving, message: Message, number: int) -> Said:
    where = f"messages[{number}]"
    content = message.content
    parts: list[str | Medium | Remote] = []
    if isinstance(content, str):
        parts.append(content)
    else:
        for i, part in enumerate(content or ()):
            parts += _part(serving, part, f"{where}.content[{i}]")
    calls = tuple(
        Call(call.function.name, _arguments(call.function.arguments, where))
        for call in message.tool_calls or ()
    )
    role = _ROLES.get(message.role, message.role)
    if role != "user" and any(not isinstance(part, str) for part in parts):
        raise bad_request("media_place", "expected media in messages of the user alone", where)
    return Said(role, tuple(parts), calls)  # type: ignore[arg-type]


def _part(serving: Serving, part: Part, where: str) -> list[str | Medium | Remote]:
    if part.type in _AUDIO:
        serving.note("audio was sent and is ignored: there is no audio in this model")
        return []
    if part.type in ("text", "input_text"):
        if part.text is None:
            raise bad_request("part", "expected a text", f"{where}.text")
        return [part.text]
    if part.type in ("image_url", "input_image", "image"):
        return [_one("picture", part.image_url or part.image, part.fps, where)]
    if part.type == "video_url":
        return [_one("video", part.video_url, part.fps, where)]
    if part.type in ("input_video", "video"):
        video = part.input_video or part.video
        if isinstance(video, list):
            return [frames(video, part.fps, where)]
        return [_one("video", video or part.video_url, part.fps, where)]
    raise bad_request("part", "expected text, image_url, video_url or input_video", where)


def _one(
    kind: Kind, value: Address | InputVideo | str | None, fps: float | None, where: str
) -> Medium | Remote:
    if isinstance(value, InputVideo):
        url, fps = value.data or value.url, value.fps or fps
    elif isinstance(value, Address):
        url, fps = value.url, value.fps or fps
    else:
        url = value
    if not url:
        raise bad_request("part", f"expected a {kind}", where)
    return medium(kind, url, fps, where=where)


def _arguments(arguments: str | dict[str, object] | None, where: str) -> dict[str, object]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise bad_request("tool_calls", "expected arguments as a JSON object", where)
    return arguments


def _too_long(expected: str) -> Refusal:
    return Refusal(413, "text_too_long", f"expected {expected}", param="messages")
