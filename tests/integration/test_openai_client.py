"""OpenAI's own client against the running server, on the random pair: shapes, errors, crowds.

Whether answers are right is asked of the demo model, in test_clients_of_the_demo_model.py.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.server import KEY, metric, serving
from tests.serve.fake import jpeg

pytestmark = pytest.mark.integration
CLIP = Path(__file__).parents[1] / "video" / "data" / "variable.mp4"


@pytest.fixture(scope="module")
def address(pair: Path) -> Iterator[str]:
    with serving(pair) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def content(*parts: dict[str, Any]) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]


PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg()}"}}


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert client.models.retrieve(model.id).id == model.id


def test_a_picture_with_logprobs(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="x", messages=content(PICTURE), max_tokens=6, temperature=0, seed=1,
        logprobs=True, top_logprobs=3,
    )  # fmt: skip
    choice = found.choices[0]
    assert found.usage is not None and found.usage.prompt_tokens_details is not None
    assert choice.logprobs is not None and choice.logprobs.content
    assert len(choice.logprobs.content[0].top_logprobs) == 3
    assert choice.finish_reason in ("stop", "length")
    again = client.chat.completions.create(
        model="x", messages=content(PICTURE), max_tokens=6, temperature=0
    )
    assert again.choices[0].message.content == choice.message.content


def test_a_video_streamed(client: openai.OpenAI) -> None:
    video = base64.b64encode(CLIP.read_bytes()).decode()
    part = {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{video}"}}
    chunks = list(
        client.chat.completions.create(
            model="x", messages=content(part), max_tokens=8, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    usage = chunks[-1].usage
    assert usage is not None and usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.model_extra is not None
    assert usage.prompt_tokens_details.model_extra["video_tokens"] > 0


def test_a_schema_is_kept_to(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"open": {"type": "boolean"}, "side": {"enum": ["left", "right"]}},
        "required": ["open", "side"],
        "additionalProperties": False,
    }
    found = client.chat.completions.create(
        model="x",
        messages=content(PICTURE),
        max_tokens=200,
        temperature=1.5,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "door", "strict": True, "schema": schema},
        },
    )
    said = json.loads(found.choices[0].message.content or "")
    assert isinstance(said["open"], bool) and said["side"] in ("left", "right")


def test_a_tool_that_is_required_is_called(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="x",
        messages=content(),
        max_tokens=300,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "lamp",
                    "parameters": {
                        "type": "object",
                        "properties": {"on": {"type": "boolean"}},
                        "required": ["on"],
                    },
                },
            }
        ],
        tool_choice="required",
    )
    choice = found.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "lamp"
    assert isinstance(json.loads(call.function.arguments)["on"], bool)


def test_errors_have_their_classes(address: str, client: openai.OpenAI) -> None:
    stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(openai.BadRequestError) as refused:
        long: list[Any] = [{"role": "user", "content": "word " * 9000}]
        client.chat.completions.create(model="x", messages=long)
    assert refused.value.code == "context_length_exceeded"


def test_sixteen_at_once_and_streams_that_are_left(address: str) -> None:
    async def work() -> None:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY) as client:
            messages: Any = [{"role": "user", "content": "Tell a long story."}]

            async def ask(i: int) -> None:
                found = await client.chat.completions.create(
                    model="x", messages=content(PICTURE), max_tokens=4
                )
                assert found.choices[0].message.role == "assistant"

            async def leave(i: int) -> None:
                stream = await client.chat.completions.create(
                    model="x", messages=messages, max_tokens=2000, stream=True
                )
                async for _ in stream:
                    break
                await stream.close()

            await asyncio.gather(*(ask(i) for i in range(16)))
            for i in range(10):
                await leave(i)
            await ask(0)

    asyncio.run(work())
    end = time.monotonic() + 30
    while metric(address, "miloco_edge_active_requests") > 0:
        assert time.monotonic() < end, "a turn was not given back"
        time.sleep(0.2)
