"""LLM Vision as it calls its provider "Custom OpenAI".

Read in valentinfrlch/ha-llmvision: custom_components/llmvision/providers.py at 3ae24ba7 (OpenAI:
validate, _prepare_vision_data, _prepare_text_data, _make_request; Provider._resolve_error).
"""

from __future__ import annotations

import json
from typing import Any

from starlette.testclient import TestClient

from miloco_edge.serve.access import Access, Key
from tests.serve.fake import Fake, picture, served, user

ROUTE = "/v1/chat/completions"
SAMPLING = {"temperature": 0.5, "top_p": 0.9}


def payload(*parts: Any, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "You analyze images."}, user(*parts)]
    return {"model": "gpt-4o-mini", "messages": messages, **SAMPLING, **more}


def read(reply: Any) -> str:
    """What it takes of an answer."""
    assert reply.status_code == 200, reply.text
    content = reply.json().get("choices")[0].get("message").get("content")
    assert isinstance(content, str)
    return content


def test_it_is_set_up_with_a_key() -> None:
    hello = {"model": "m", "messages": [user("Hi")]}
    with served(Fake(), access=Access((Key.of("ha", "long-enough"),))) as client:
        for secret, status in (("wrong", 401), ("long-enough", 200)):
            headers = {"Authorization": f"Bearer {secret}"}
            reply = client.post(ROUTE, json=hello, headers=headers)
            assert reply.status_code == status
            if status != 200:
                assert isinstance(reply.json()["error"]["message"], str)


def test_frames_of_an_event_are_named(engine: Fake, client: TestClient) -> None:
    parts = [part for i in range(3) for part in (f"hall frame {i}:", picture(shade=i))]
    body = payload(*parts, "What happened?", max_completion_tokens=3000)
    assert read(client.post(ROUTE, json=body))
    asked, clip = engine.asked[-1], engine.clips[-1]
    assert asked["system"] == "You analyze images." and asked["budget"].answer_tokens == 3000
    assert asked["question"].startswith("hall frame 0:\n[picture 1]\nhall frame 1:\n[picture 2]")
    assert asked["question"].endswith("What happened?")
    assert clip is not None and len(clip.frames) == 3


def test_a_structure_is_kept_to(engine: Fake, client: TestClient) -> None:
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["title", "people"],
        "additionalProperties": False,
    }
    form = {"name": "response", "schema": schema, "strict": True}
    engine.says = ('{"title": "Nobody", "people": 0}',)
    body = payload(
        "Image 1:", picture(), "Who is there?", max_completion_tokens=100,
        response_format={"type": "json_schema", "json_schema": form},
    )  # fmt: skip
    assert json.loads(read(client.post(ROUTE, json=body))) == {"title": "Nobody", "people": 0}
    assert "people" in engine.asked[-1]["sampling"].grammar


def test_a_title_is_asked_for_in_two_messages(engine: Fake, client: TestClient) -> None:
    body = {
        "model": "m",
        "messages": [user("Write a short title."), user("Create a title for this text: A cat.")],
        "max_completion_tokens": 4096,
        **SAMPLING,
    }
    assert read(client.post(ROUTE, json=body))
    assert engine.asked[-1]["question"].startswith("Write a short title.\nCreate a title")
