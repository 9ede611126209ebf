"""Ollama's own client against the running server, in the calls of Home Assistant's integration.

home-assistant/core: homeassistant/components/ollama/entity.py at 0d0db908, config_flow.py at
0069cd7b.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.integration.server import KEY, serving
from tests.serve.fake import jpeg

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def address(pair: Path) -> Iterator[str]:
    with serving(pair) as address:
        yield address


@asynccontextmanager
async def client(address: str, key: str = KEY) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=address, headers={"Authorization": f"Bearer {key}"})
    try:
        yield client
    finally:
        await client.close()


def test_an_ai_task_from_set_up_to_answer(address: str) -> None:
    async def work() -> None:
        async with client(address) as home:
            listed = await home.list()
            (name,) = [model["model"] for model in listed["models"]]
            assert (await home.show(name)).capabilities
            schema: dict[str, Any] = {
                "type": "object",
                "properties": {"cars": {"type": "integer", "minimum": 0, "maximum": 9}},
                "required": ["cars"],
            }
            chunks = [
                chunk
                async for chunk in await home.chat(
                    model=name,
                    messages=[
                        ollama.Message(role="system", content="You are an expert."),
                        ollama.Message(
                            role="user",
                            content="How many cars?",
                            images=[ollama.Image(value=base64.b64decode(jpeg()))],
                        ),
                    ],
                    stream=True,
                    keep_alive=-1,
                    options={"num_ctx": 8192},
                    think=False,
                    format=schema,
                )
            ]
            said = "".join(chunk["message"].get("content") or "" for chunk in chunks)
            assert 0 <= json.loads(said)["cars"] <= 9
            assert chunks[-1].done and chunks[-1].done_reason == "stop"

    asyncio.run(work())


def test_a_wrong_key_and_a_strange_model(address: str) -> None:
    async def work() -> None:
        with pytest.raises(ollama.ResponseError) as refused:
            async with client(address, "wrong") as home:
                await home.list()
        assert refused.value.status_code == 401
        with pytest.raises(ollama.ResponseError) as missing:
            async with client(address) as home:
                await home.pull("llama3.2")
        assert missing.value.status_code == 404

    asyncio.run(work())
