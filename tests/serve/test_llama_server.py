"""llama-server as its clients know it: Frigate's provider and Home Assistant's integration.

Read in blakeblackshear/frigate: frigate/genai/plugins/llama_cpp.py at 06ce190d (_get_model_info,
_send, _probe_prompt_tokens, _build_payload, _stats_from_llama_cpp_chunk); in home-assistant/core:
homeassistant/components/llama_cpp/api.py at 80640ba4 (async_list_models,
async_validate_completions, _extract_error_message) and entity.py at 35c6bd97.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.testclient import TestClient

from miloco_edge.serve.access import Access, Key
from tests.serve.fake import FACTS, Fake, picture, served, user


def test_frigate_finds_what_the_model_can_do(client: TestClient) -> None:
    (entry,) = client.get("/v1/models").json()["data"]
    assert entry["id"] == FACTS.name and "MiMo-VL-Miloco-7B:Q4_0" in entry["aliases"]
    assert "image" in entry["architecture"]["input_modalities"]
    assert "audio" not in entry["architecture"]["input_modalities"]
    assert entry["meta"]["n_ctx"] == 8192 and "--jinja" in entry["status"]["args"]
    assert entry["max_model_len"] == 8192
    props = client.get("/props", params={"model": FACTS.name}).json()
    assert props["default_generation_settings"]["n_ctx"] == 8192
    assert props["modalities"] == {"vision": True, "audio": False, "video": True}
    assert props["chat_template_caps"]["supports_tools"] is True
    assert "enable_thinking" in props["chat_template"] and props["media_marker"]


def test_frigate_describes_an_object(engine: Fake, client: TestClient) -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "other_concerns": {"anyOf": [{"type": "array", "items": {"type": "string"}},
                                         {"type": "null"}]},
            "potential_threat_level": {"type": "integer", "minimum": 0, "maximum": 2},
        },
        "required": ["title", "confidence", "potential_threat_level", "other_concerns"],
        "additionalProperties": False,
    }  # fmt: skip
    payload = {
        "model": FACTS.name,
        "messages": [
            user("Analyze the sequence. /no_think", *[picture(shade=i) for i in range(6)])
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "review", "strict": True, "schema": schema},
        },
        "chat_template_kwargs": {"enable_thinking": False},
    }
    found = client.post("/v1/chat/completions", json=payload).json()
    assert found["choices"][0]["message"]["content"].strip()
    asked, clip = engine.asked[-1], engine.clips[-1]
    assert asked["think"] is False and "potential_threat_level" in asked["sampling"].grammar
    assert clip is not None and len(clip.frames) == 6


def test_frigate_says_what_each_picture_is(engine: Fake, client: TestClient) -> None:
    parts = [part for i in range(3) for part in (f"Frame {i + 1}", picture(shade=i))]
    payload = {"model": FACTS.name, "messages": [user("Compare.", *parts)]}
    assert client.post("/v1/chat/completions", json=payload).status_code == 200
    question = engine.asked[-1]["question"]
    assert question.startswith("Compare.\nFrame 1\n[picture 1]\nFrame 2\n[picture 2]\nFrame 3")


def test_frigate_learns_what_a_picture_costs(client: TestClient) -> None:
    payload = {"model": FACTS.name, "messages": [user(".", picture())], "max_tokens": 1}
    found = client.post("/v1/chat/completions", json=payload).json()
    assert isinstance(found["usage"]["prompt_tokens"], int)


def test_frigate_follows_a_stream(client: TestClient) -> None:
    payload = {
        "model": FACTS.name,
        "messages": [user("Who?")],
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
    }
    text = client.post("/v1/chat/completions", json=payload).text
    last = json.loads(text.split("\n\n")[-3][6:])
    assert last["usage"]["completion_tokens"] == 9
    assert last["timings"]["predicted_ms"] > 0 and last["timings"]["predicted_per_second"] > 0


PROBE: dict[str, Any] = {
    "model": FACTS.name,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "test_function",
                "description": "Test function.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ],
    "max_tokens": 3,
}


def test_home_assistant_probes_with_tools_and_three_tokens(
    engine: Fake, client: TestClient
) -> None:
    engine.finish_reason = "length"
    found = client.post("/v1/chat/completions", json={**PROBE, "stream": False}).json()
    assert found["choices"][0]["finish_reason"] == "length"
    assert engine.asked[-1]["budget"].answer_tokens == 3
    streamed = client.post("/v1/chat/completions", json={**PROBE, "stream": True})
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_home_assistant_is_told_that_its_key_is_wrong() -> None:
    with served(Fake(), access=Access((Key.of("ha", "long-enough"),))) as client:
        reply = client.get("/v1/models", headers={"Authorization": "Bearer wrong"})
        assert reply.status_code == 401 and reply.json()["error"]["message"]
        good = client.get("/v1/models", headers={"Authorization": "Bearer long-enough"})
        assert good.status_code == 200


def test_home_assistant_asks_with_a_structure(engine: Fake, client: TestClient) -> None:
    body = {
        **PROBE,
        "messages": [user("Is the door open?", picture())],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "door",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"open": {"type": "boolean"}, "why": {"type": "string"}},
                    "required": ["open"],
                },
            },
        },
        "max_tokens": 3000,
        "top_p": 1.0,
        "temperature": 1.0,
        "user": "01JX",
        "stream": False,
    }
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    pdf = {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AAAA"}}
    refused = client.post("/v1/chat/completions", json={**body, "messages": [user("x", pdf)]})
    assert refused.status_code == 400 and refused.json()["error"]["message"]


def test_health_is_llama_servers(engine: Fake, client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    engine.state = "loading"
    reply = client.get("/health")
    assert reply.status_code == 503
    assert reply.json() == {
        "error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}
    }
