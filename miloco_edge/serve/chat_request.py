"""OpenAI's chat completion request, as its many clients send it, and what it asks for.

Unknown fields are ignored, as OpenAI-compatible servers do. What a client may rely on and this
model cannot give (several answers, audio) is refused or noted, never pretended.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from miloco_edge.types import Layout

Text = Annotated[str, Field(max_length=1_000_000)]
Fps = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]


class Wire(BaseModel):
    """What every part of a request has in common."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Address(Wire):
    """`{"url": "data:…"}`, with what some clients put beside it."""

    url: str
    fps: Fps | None = None


class InputVideo(Wire):
    """llama-server's form of a video: base64, or an address."""

    data: str | None = None
    url: str | None = None
    fps: Fps | None = None


class Part(Wire):
    """One part of a message's content; which fields count depends on its type."""

    type: str
    text: Text | None = None
    image_url: Address | str | None = None
    image: str | None = None
    video_url: Address | str | None = None
    video: list[str] | str | Address | None = None
    """Miloco 0.1: a list of pictures."""
    input_video: InputVideo | str | None = None
    fps: Fps | None = None


class FunctionCall(Wire):
    """A call that the model made earlier."""

    name: str
    arguments: str | dict[str, Any] | None = None


class ToolCall(Wire):
    """A call, wrapped."""

    id: str | None = None
    function: FunctionCall


class Message(Wire):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = "user"
    content: Text | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None


class Function(Wire):
    """A tool's function."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class ToolParam(Wire):
    """A tool."""

    type: str = "function"
    function: Function


class ChosenFunction(Wire):
    """The name in a tool choice."""

    name: str


class ToolChoice(Wire):
    """One tool that must be called."""

    type: str = "function"
    function: ChosenFunction


class JsonSchema(Wire):
    """A schema by name."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)
    name: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | bool | None = Field(None, alias="schema")


class ResponseFormat(Wire):
    """What the answer must be."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    """llama-server's: a schema beside json_object."""


class StreamOptions(Wire):
    """What a stream ends with."""

    include_usage: bool | None = None


class TemplateOptions(Wire):
    """llama-server's chat_template_kwargs."""

    enable_thinking: bool | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None


class Thinking(Wire):
    """MiMo's and Anthropic's switch."""

    type: str | None = None
    budget_tokens: Annotated[int, Field(ge=0)] | None = None


Count = Annotated[int, Field(ge=1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ChatRequest(Wire):
    """POST /v1/chat/completions."""

    model: str = ""
    """This server has one model, and answers with it whatever it is called."""
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    max_tokens: Annotated[int, Field(ge=-1)] | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    stop: (
        Annotated[str, Field(max_length=256)] | list[Annotated[str, Field(max_length=256)]] | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolParam], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateOptions | None = None
    thinking: Thinking | bool | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None
    reasoning_effort: Effort | None = None
    layout: Layout | None = None
    """Ours: whether pictures are separate or frames of one video."""
    fps: Fps | None = None
    """Ours: the rate of pictures that are frames of one video."""
    visual_tokens: Annotated[int, Field(ge=4)] | None = None
    """Ours: most visual tokens."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """Ours: seconds in which to answer, waiting included."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """Who goes first; higher is sooner."""
