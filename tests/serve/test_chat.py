from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from miloco_edge import Piece, Turn
from miloco_edge.errors import (
    BusyError,
    ContextFullError,
    EngineDownError,
    MediaError,
    NonFiniteError,
)
from miloco_edge.serve.settings import Limits
from tests.serve.fake import FACTS, Fake, jpeg, picture, served, user

ROUTE = "/v1/chat/completions"


def ask(client: TestClient, *messages: dict[str, Any], **body: Any) -> dict[str, Any]:
    reply = client.post(ROUTE, json={"model": "x", "messages": list(messages), **body})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def events(client: TestClient, *messages: dict[str, Any], **body: Any) -> list[Any]:
    asked = {"model": "x", "messages": list(messages), "stream": True, **body}
    reply = client.post(ROUTE, json=asked)
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
    lines = [line for line in reply.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_an_answer_has_every_field_that_clients_read(client: TestClient) -> None:
    found = ask(client, user("What is the person doing?"))
    assert found["object"] == "chat.completion" and found["id"].startswith("chatcmpl-")
    assert isinstance(found["created"], int) and found["model"] == "miloco-7b"
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A person is reading."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert found["usage"] == {
        "prompt_tokens": 120,
        "completion_tokens": 9,
        "total_tokens": 129,
        "prompt_tokens_details": {
            "cached_tokens": 20,
            "audio_tokens": 0,
            "video_tokens": 0,
            "image_tokens": 72,
        },
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert found["timings"]["prompt_n"] == 100 and found["timings"]["predicted_n"] == 9
    assert found["timings"]["predicted_per_second"] == pytest.approx(30)


def test_a_stream_begins_with_the_role_and_ends_with_usage(client: TestClient) -> None:
    first, *deltas, last, usage = events(
        client, user("Who?"), stream_options={"include_usage": True}
    )
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [d["choices"][0]["delta"]["content"] for d in deltas] == ["A person ", "is reading."]
    assert last["choices"][0]["finish_reason"] == "stop" and last["timings"]
    assert usage["choices"] == [] and usage["usage"]["total_tokens"] == 129
    assert len({each["id"] for each in (first, *deltas, last, usage)}) == 1


def test_media_come_first_and_words_last(engine: Fake, client: TestClient) -> None:
    ask(client, {"role": "system", "content": "Be brief."}, user("Who is it? /no_think", picture()))
    asked = engine.asked[-1]
    assert asked["question"] == "Who is it? /no_think" and asked["system"] == "Be brief."
    clip = engine.clips[-1]
    assert clip is not None and clip.layout == "images" and clip.frames[0].size == (56, 56)


def test_words_between_pictures_keep_their_place(engine: Fake, client: TestClient) -> None:
    ask(client, user("Door:", picture(), picture(), "Yard:", picture(), "Who is where?"))
    question = engine.asked[-1]["question"]
    assert question == "Door:\n[pictures 1 to 2]\nYard:\n[picture 3]\nWho is where?"


def test_a_conversation_keeps_its_turns(engine: Fake, client: TestClient) -> None:
    ask(
        client,
        user("One?"),
        {"role": "assistant", "content": "1"},
        user("Two?"),
        user("Or three?"),
    )
    asked = engine.asked[-1]
    assert list(asked["history"]) == [Turn("One?", "1")]
    assert asked["question"] == "Two?\nOr three?" and asked["system"] is None


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video", "video": [f"data:image/jpeg;base64,{jpeg()}"] * 4},
        {
            "type": "video_url",
            "video_url": {"url": "data:video/jpeg;base64," + ",".join([jpeg()] * 4)},
            "fps": 2,
        },
    ],
)
def test_lists_of_frames_are_videos(engine: Fake, client: TestClient, part: dict[str, Any]) -> None:
    found = ask(client, user("What happens?", part))
    clip = engine.clips[-1]
    assert clip is not None and clip.layout == "video" and len(clip.frames) == 4
    assert clip.fps == 2
    assert found["usage"]["prompt_tokens_details"]["video_tokens"] == 72


def test_pictures_can_be_frames(engine: Fake, client: TestClient) -> None:
    ask(client, user(picture(), picture(), "Falls?"), layout="video", fps=1)
    clip = engine.clips[-1]
    assert clip is not None and (clip.layout, clip.fps) == ("video", 1)


def test_audio_is_ignored(engine: Fake, client: TestClient) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "data:audio/m4a;base64,AAAA"}}
    found = ask(client, user("Who speaks?", audio))
    assert found["usage"]["prompt_tokens_details"]["audio_tokens"] == 0
    assert engine.clips[-1] is None


@pytest.mark.parametrize(
    ("body", "think", "budget"),
    [
        ({}, False, 0),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, 0),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True, 1024),
        ({"thinking": {"type": "disabled"}}, False, 0),
        ({"thinking": {"type": "enabled", "budget_tokens": 77}}, True, 77),
        ({"reasoning_effort": "none"}, False, 0),
        ({"reasoning_effort": "low"}, True, 256),
        ({"reasoning_effort": "high", "thinking": {"type": "disabled"}}, False, 0),
        ({"thinking": True, "thinking_budget": 0}, False, 0),
    ],
)
def test_thinking_is_off_unless_it_is_asked_for(
    engine: Fake, client: TestClient, body: dict[str, Any], think: bool, budget: int
) -> None:
    ask(client, user("Who?"), **body)
    asked = engine.asked[-1]
    assert asked["think"] is think and asked["budget"].thinking_tokens == budget


def test_thoughts_are_apart_from_the_answer(engine: Fake, client: TestClient) -> None:
    engine.says = (Piece("Hm. ", True), Piece("A cat.", True), Piece("A cat"))
    found = ask(client, user("Who?"), reasoning_effort="low")
    message = found["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("A cat", "Hm. A cat.")
    deltas = [each["choices"][0]["delta"] for each in events(client, user("Who?"), thinking=True)]
    assert deltas[1:4] == [
        {"reasoning_content": "Hm. "},
        {"reasoning_content": "A cat."},
        {"content": "A cat"},
    ]


def test_max_tokens_are_for_thought_and_answer_together(engine: Fake, client: TestClient) -> None:
    ask(client, user("Who?"), max_tokens=400, reasoning_effort="high")
    budget = engine.asked[-1]["budget"]
    assert (budget.thinking_tokens, budget.answer_tokens) == (300, 100)
    ask(client, user("Who?"), max_completion_tokens=7)
    assert engine.asked[-1]["budget"].answer_tokens == 7


def test_sampling_stops_and_logprobs(engine: Fake, client: TestClient) -> None:
    found = ask(
        client, user("Who?"), temperature=0, seed=7, stop=["\n", "END"],
        logprobs=True, top_logprobs=2,
    )  # fmt: skip
    asked = engine.asked[-1]
    assert (asked["sampling"].temperature, asked["sampling"].seed) == (0, 7)
    assert asked["sampling"].top_p == 0.95 and asked["stop"] == ("\n", "END")
    (token,) = found["choices"][0]["logprobs"]["content"]
    assert token["token"] == "yes" and token["bytes"] == [121, 101, 115]
    assert [each["token"] for each in token["top_logprobs"]] == ["yes", "no"]
    last = events(client, user("Who?"), logprobs=True)[-1]["choices"][0]
    assert last["logprobs"]["content"][0]["top_logprobs"] == []


def test_a_schema_becomes_a_grammar(engine: Fake, client: TestClient) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    for response_format in (
        {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}},
        {"type": "json_object", "schema": schema},
    ):
        ask(client, user("Who?"), response_format=response_format)
        assert '"\\"a\\""' in engine.asked[-1]["sampling"].grammar
    ask(client, user("Who?"), response_format={"type": "json_object"})
    assert engine.asked[-1]["sampling"].grammar.startswith("root ::= object")


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "HassTurnOn",
            "description": "Turns on",
            "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    }
]
CALL = '<tool_call>\n{"name": "HassTurnOn", "arguments": {"name": "lamp"}}\n</tool_call>'


def test_tools_are_offered_called_and_answered(engine: Fake, client: TestClient) -> None:
    engine.says = ("I will. <tool", CALL[5:30], CALL[30:])
    found = ask(client, user("Light!"), tools=TOOLS)
    assert '{"name": "HassTurnOn", "description": "Turns on"' in engine.asked[-1]["system"]
    choice = found["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function" and call["id"].startswith("call_")
    assert call["function"]["name"] == "HassTurnOn"
    assert json.loads(call["function"]["arguments"]) == {"name": "lamp"}

    streamed = events(client, user("Light!"), tools=TOOLS)
    deltas = [each["choices"][0]["delta"] for each in streamed]
    assert "".join(d.get("content", "") for d in deltas) == "I will. "
    (calls,) = [d["tool_calls"] for d in deltas if "tool_calls" in d]
    assert calls[0]["index"] == 0 and calls[0]["function"]["name"] == "HassTurnOn"
    assert streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"

    engine.says = ("Done.",)
    ask(
        client,
        user("Light!"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": '{"ok": true}'},
        tools=TOOLS,
    )
    asked = engine.asked[-1]
    assert asked["question"] == '<tool_response>\n{"ok": true}\n</tool_response>'
    assert asked["history"][0].answer == CALL


def test_a_tool_can_be_required(engine: Fake, client: TestClient) -> None:
    ask(client, user("Light!"), tools=TOOLS, tool_choice="required")
    assert "HassTurnOn" in engine.asked[-1]["sampling"].grammar
    ask(client, user("Light!"), tools=TOOLS, tool_choice="none")
    assert engine.asked[-1]["system"] is None


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextFullError(900, 100), 400, "context_length_exceeded"),
        (MediaError("x", "at 0x7f00"), 400, "media_unreadable"),
        (BusyError(16, 7.2), 429, "busy"),
        (EngineDownError("it died"), 503, "engine_down"),
        (NonFiniteError("vision encoder"), 500, "not_finite"),
        (RuntimeError("0x7f00"), 500, "internal"),
    ],
)
def test_errors_have_fixed_words(
    engine: Fake, client: TestClient, error: Exception, status: int, code: str
) -> None:
    engine.fails = error
    for stream in (False, True):
        body = {"messages": [user("Who?")], "stream": stream}
        reply = client.post(ROUTE, json=body)
        assert reply.status_code == status
        found = reply.json()["error"]
        assert found["code"] == code and found["type"] and "0x7f" not in found["message"]
        assert ("Retry-After" in reply.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"messages": []}, 400),
        ({"messages": [user("")]}, 400),
        ({"messages": [user("x")], "n": 2}, 400),
        ({"messages": [user("x")], "temperature": "<secret>"}, 400),
        ({"messages": [user("x")], "tools": TOOLS, "tool_choice": {"function": {"name": ""}}}, 400),
        ({"messages": [user("x", {"type": "image_url", "image_url": "/etc/passwd"})]}, 400),
        ({"messages": [user("x", {"type": "image_url", "image_url": "file:///etc/passwd"})]}, 400),
        ({"messages": [user("x", {"type": "image_url", "image_url": "http://h/a.jpg"})]}, 400),
        ({"messages": [user("x", {"type": "image_url", "image_url": "data:,x"})]}, 400),
        (
            {"messages": [user("x", {"type": "image_url",
                                     "image_url": "data:application/pdf;base64,AA"})]}, 400,
        ),
        ({"messages": [user("x", {"type": "image_url", "image_url": "data:;base64,AAAA"})]}, 400),
        ({"messages": [user("x", {"type": "file"})]}, 400),
        ({"messages": [{"role": "system", "content": [picture()]}, user("x")]}, 400),
        ({"messages": [user("x")] * 300}, 413),
        ({"messages": [user("x" * 200_001)]}, 413),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    client: TestClient, body: dict[str, Any], status: int
) -> None:
    reply = client.post(ROUTE, json=body)
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["code"] and "secret" not in reply.text


def test_bodies_are_bounded(engine: Fake) -> None:
    with served(engine, limits=Limits(body_bytes=1000)) as client:
        reply = client.post(ROUTE, content=b"x" * 1001)
        assert reply.status_code == 413
        assert client.post(ROUTE, content=(b"x" * 600 for _ in range(3))).status_code == 413
        assert client.post(ROUTE, content=b"{").json()["error"]["code"] == "json"


def test_pictures_are_bounded(engine: Fake) -> None:
    limits = Limits(picture_pixels=56 * 56, frames=2, media=2)
    with served(engine, limits=limits) as client:
        for parts in ([picture(width=112)], [picture()] * 3):
            reply = client.post(ROUTE, json={"messages": [user("x", *parts)]})
            assert reply.status_code == 413, reply.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", [ROUTE, "/api/chat"])
def test_an_answer_out_of_time_is_no_answer(
    engine: Fake, client: TestClient, route: str, stream: bool
) -> None:
    engine.says, engine.finish_reason = (), "deadline"
    message = {"role": "user", "content": "Who?"}
    reply = client.post(route, json={"messages": [message], "deadline_s": 1, "stream": stream})
    assert reply.status_code == 504
    assert route != ROUTE or engine.asked[-1]["budget"].seconds <= 1


@pytest.mark.parametrize("route", [ROUTE, "/v1/decide"])
def test_media_that_are_not_decoded_in_time_end_the_request(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    async def clip(*_: object) -> None:
        await asyncio.sleep(5)

    app: Any = client.app
    monkeypatch.setattr(app.state.serving.decoders, "clip", clip)
    body = {"messages": [user("Who?", picture())], "images": [jpeg()], "rules": ["yes?"]}
    began = time.monotonic()
    reply = client.post(route, json={**body, "deadline_s": 0.1})
    assert reply.status_code == 504 and reply.json()["error"]["code"] == "deadline"
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "beyond",
    [
        {"response_format": {"type": "json_object"}},
        {"tools": [{"function": {"name": "lamp"}}], "tool_choice": "required"},
    ],
)
def test_what_a_model_elsewhere_is_not_held_to_is_refused(
    engine: Fake, beyond: dict[str, Any]
) -> None:
    with served(engine, facts=replace(FACTS, here=False)) as client:
        reply = client.post(ROUTE, json={"messages": [user("Who?")], **beyond})
        assert reply.status_code == 400 and reply.json()["error"]["code"] == "unsupported"
        ask(client, user("Who?"), response_format={"type": "text"})


def test_a_model_elsewhere_may_give_no_logprobs(engine: Fake) -> None:
    with served(engine, facts=replace(FACTS, here=False)) as client:
        found = ask(client, user("Who?"), logprobs=True)
        assert found["choices"][0]["logprobs"]["content"]
        engine.gives_logprobs = False
        found = ask(client, user("Who?"), logprobs=True)
        assert found["choices"][0]["logprobs"] is None


def test_while_it_loads_nobody_waits(engine: Fake, client: TestClient) -> None:
    engine.state = "loading"
    reply = client.post(ROUTE, json={"messages": [user("Who?")]})
    assert reply.status_code == 503 and reply.headers["Retry-After"]
    assert reply.json()["error"]["message"] == "Loading model"


def test_limits_hold_whatever_is_asked(engine: Fake) -> None:
    limits = replace(Limits(), answer_tokens=10, visual_tokens=64, seconds=5)
    with served(engine, limits=limits) as client:
        ask(client, user("Who?"), max_tokens=10**6, visual_tokens=10**6, deadline_s=10**6)
    budget = engine.asked[-1]["budget"]
    assert budget.answer_tokens == 10 and budget.visual_tokens == 64 and budget.seconds <= 5


def test_all_words_of_a_request_count_together() -> None:
    talk = [user("a" * 60), {"role": "assistant", "content": "b"}, user("c" * 60)]
    for most, status in ((100, 413), (200, 200)):
        with served(Fake(), limits=replace(Limits(), text_chars=most)) as client:
            reply = client.post(ROUTE, json={"messages": talk})
            assert reply.status_code == status
