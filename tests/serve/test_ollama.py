"""Ollama's API as Home Assistant's integration calls it.

Read in home-assistant/core: homeassistant/components/ollama/entity.py at 0d0db908 (chat, its
options, keep_alive, format, think, what is read of each chunk), config_flow.py at 0069cd7b (list
with `models[].model`, pull of what is not listed), ai_task.py at dbc6a57c.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.testclient import TestClient

from miloco_edge import Piece
from tests.serve.fake import Fake, jpeg
from tests.serve.test_chat import CALL, TOOLS


def lines(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    reply = client.post("/api/chat", json={"model": "miloco-7b:latest", "stream": True, **body})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in reply.text.splitlines()]


def test_set_up_lists_the_model_and_pulls_nothing(client: TestClient) -> None:
    (model,) = client.get("/api/tags").json()["models"]
    assert model["model"] == "miloco-7b:latest" and model["size"] > 0
    assert model["details"]["quantization_level"] == "Q4_0"
    assert client.get("/api/version").json()["version"]
    pulled = client.post("/api/pull", json={"model": model["model"], "stream": False})
    assert pulled.json() == {"status": "success"}
    refused = client.post("/api/pull", json={"model": "llama3", "stream": False})
    assert refused.status_code == 404 and isinstance(refused.json()["error"], str)
    shown = client.post("/api/show", json={"model": model["model"]}).json()
    assert {"vision", "tools", "thinking"} <= set(shown["capabilities"])
    assert client.get("/api/ps").json()["models"][0]["context_length"] == 8192


def test_an_ai_task_with_a_camera_picture(engine: Fake, client: TestClient) -> None:
    engine.says = ('{"cars":', " 2}")
    schema = {"type": "object", "properties": {"cars": {"type": "integer"}}, "required": ["cars"]}
    said = lines(
        client,
        messages=[
            {"role": "system", "content": "You are a Home Assistant expert."},
            {"role": "user", "content": "How many cars?", "images": [jpeg()]},
        ],
        tools=None,
        keep_alive=-1,
        options={"num_ctx": 8192},
        think=False,
        format=schema,
    )
    assert "".join(each["message"]["content"] for each in said) == '{"cars": 2}'
    assert [each["done"] for each in said] == [False, False, True]
    last = said[-1]
    assert last["done_reason"] == "stop" and last["eval_count"] == 9
    assert last["prompt_eval_count"] == 120 and last["total_duration"] == 1_100_000_000
    asked = engine.asked[-1]
    assert "cars" in asked["sampling"].grammar and asked["think"] is False
    clip = engine.clips[-1]
    assert clip is not None and clip.layout == "images"


def test_a_conversation_with_tools_and_thought(engine: Fake, client: TestClient) -> None:
    engine.says = (Piece("Hm.", True), CALL)
    said = lines(
        client,
        messages=[
            {"role": "user", "content": "Light!"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "HassTurnOn", "arguments": {"name": "a"}}}],
            },
            {"role": "tool", "content": '{"data": null, "error": "no a"}'},
        ],
        tools=TOOLS,
        keep_alive="300s",
        think=True,
    )
    assert said[0]["message"]["thinking"] == "Hm."
    (calls,) = [each["message"]["tool_calls"] for each in said if "tool_calls" in each["message"]]
    assert calls == [{"function": {"name": "HassTurnOn", "arguments": {"name": "lamp"}}}]
    assert '"arguments": {"name": "a"}' in engine.asked[-1]["history"][0].answer


def test_whole_answers_and_generate(engine: Fake, client: TestClient) -> None:
    body = {"model": "m", "stream": False}
    whole = client.post(
        "/api/chat", json={**body, "messages": [{"role": "user", "content": "Who?"}]}
    ).json()
    assert whole["message"] == {"role": "assistant", "content": "A person is reading."}
    assert whole["done"] is True
    generated = client.post(
        "/api/generate",
        json={**body, "prompt": "Who?", "system": "Be brief.", "images": [jpeg()],
              "options": {"temperature": 0, "num_predict": 5, "stop": ["x"]}},
    ).json()  # fmt: skip
    assert generated["response"] == "A person is reading."
    asked = engine.asked[-1]
    assert asked["system"] == "Be brief." and asked["budget"].answer_tokens == 5
    assert asked["stop"] == ("x",) and asked["sampling"].temperature == 0
    loaded = client.post("/api/chat", json={"model": "m", "messages": []}).json()
    assert loaded["done_reason"] == "load"
    unsaid = client.post("/api/generate", json={"model": "m", "prompt": "Who?", "stream": None})
    assert unsaid.headers["content-type"].startswith("application/x-ndjson")


def test_errors_are_a_text(engine: Fake, client: TestClient) -> None:
    for body in ({"messages": 3}, {"messages": [{"role": "wizard", "content": "x"}]}):
        reply = client.post("/api/chat", json=body)
        assert reply.status_code == 400 and isinstance(reply.json()["error"], str)
