from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miloco_edge import Clip
from miloco_edge.engine import remote
from miloco_edge.engine.failover import Failover
from miloco_edge.engine.protocol import refused
from miloco_edge.engine.remote import RemoteEngine, read_choice
from miloco_edge.errors import ClosedError, EngineDownError, EngineError
from miloco_edge.types import Budget, Sampling


def logprobs(*positions: dict[str, float]) -> dict[str, Any]:
    """Top candidates of each position, likeliest first, as OpenAI's API gives them."""
    return {
        "content": [
            {
                "token": next(iter(top)),
                "logprob": math.log(next(iter(top.values()))),
                "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top.items()],
            }
            for top in positions
        ]
    }


class FakeServer(ThreadingHTTPServer):
    """An OpenAI-compatible server; `reply` is what the next completions hold."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.content = "Yes"
        self.logprobs: Any = logprobs({"Yes": 0.6, "yes": 0.2, "No": 0.1, "Maybe": 0.1})
        self.status, self.delay_s, self.drip_s = 200, 0.0, 0.0
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        self._say({"data": [{"id": "big-model"}]})

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        self.server.keys.append(self.headers.get("Authorization"))
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        time.sleep(self.server.delay_s)
        choice = {
            "message": {"role": "assistant", "content": self.server.content},
            "finish_reason": "stop",
            "logprobs": self.server.logprobs,
        }
        usage = {"prompt_tokens": 100, "completion_tokens": 2}
        self._say({"choices": [choice], "usage": usage})

    def _say(self, document: Any) -> None:
        body = json.dumps(document).encode()
        try:
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for byte in body if self.server.drip_s else ():
                self.wfile.write(bytes([byte]))
                time.sleep(self.server.drip_s)
            self.wfile.write(b"" if self.server.drip_s else body)
        except OSError:
            pass  # the client left

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture
def engine(server: FakeServer) -> Iterator[RemoteEngine]:
    engine = RemoteEngine(server.url, api_key="hush")
    yield engine
    engine.close()


@pytest.fixture
def clip() -> Clip:
    return Clip.from_frames([np.full((112, 224, 3), 90, np.uint8)] * 4, 2.0)


def test_rules_are_decided_from_the_odds(
    engine: RemoteEngine, server: FakeServer, clip: Clip
) -> None:
    seen = engine.decide(clip, ["Someone is reading", "有人在看书"]).result(10)
    first, second = seen.decisions
    assert (first.answer, first.path, first.rule) == ("yes", "remote", "Someone is reading")
    assert first.p_yes == pytest.approx(0.8 / 0.9)
    assert first.outside_mass == pytest.approx(0.1)
    assert second.rule == "有人在看书"
    assert seen.usage.prompt_tokens == 200 and seen.usage.visual_tokens > 0
    assert engine.name == "big-model" and engine.state == "ready"
    body = server.asked[0]
    assert body["model"] == "big-model" and body["temperature"] == 0
    assert server.keys[0] == "Bearer hush"
    *pictures, text = body["messages"][0]["content"]
    assert text["text"].endswith("/no_think") and "Someone is reading" in text["text"]
    assert len(pictures) == 4
    uri = pictures[0]["image_url"]["url"]
    picture = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
    assert picture.width % 28 == picture.height % 28 == 0


@pytest.mark.parametrize(
    ("content", "odds", "answer", "p_yes"),
    [
        ("no.", None, "no", None),
        ("是的", None, "yes", None),
        ("Nobody is there", None, "unknown", None),
        ("", None, "unknown", None),
        ("<think>\n</think>No", logprobs({"<think>": 1.0}, {"No": 0.9, "Yes": 0.1}), "no", 0.1),
        ("Yes", logprobs({"Yes": 0.2, "Perhaps": 0.8}), "unknown", 1.0),
        ("Yes", {"content": []}, "yes", None),
        ("There is no light: yes", logprobs({"There": 1.0}, {" no": 1.0}), "unknown", None),
        ("<think>No one, so", logprobs({"<think>": 1.0}, {"No": 1.0}), "unknown", None),
        (None, logprobs({"<think>": 1.0}, {"No": 1.0}), "unknown", None),
        ("<think>No</think>Yes", logprobs({"<think>": 1.0}, {"No": 1.0}, {"</": 1.0},
                                          {"think>": 1.0}, {"Yes": 0.9, "No": 0.1}), "yes", 0.9),
    ],
)  # fmt: skip
def test_what_servers_say(content: str | None, odds: Any, answer: str, p_yes: float | None) -> None:
    decision = read_choice("rule", {"message": {"content": content}, "logprobs": odds})
    assert decision.answer == answer
    assert decision.p_yes == (None if p_yes is None else pytest.approx(p_yes))


def test_a_question(engine: RemoteEngine, server: FakeServer) -> None:
    server.content = "<think>let me see</think>A cat."
    pieces: list[str] = []
    answer = engine.ask(None, "What is it?", emit=lambda p: pieces.append(p.text)).result(10)
    assert (answer.text, answer.thinking, pieces) == ("A cat.", "let me see", ["A cat."])
    assert server.asked[0]["messages"][0]["content"][-1]["text"] == "What is it? /no_think"


def test_log_probabilities_are_those_of_the_answer(
    engine: RemoteEngine, server: FakeServer
) -> None:
    server.content = "<think>Hm</think>Two"
    odds = logprobs({"<think>": 1.0}, {"Hm": 1.0}, {"</think>": 1.0}, {"Two": 0.75, "2": 0.25})
    odds["content"][3]["id"] = 7  # as llama-server; OpenAI has no ids
    server.logprobs = odds
    assert engine.ask(None, "How many?").result().logprobs is None
    assert "logprobs" not in server.asked[-1]
    answer = engine.ask(None, "How many?", top_logprobs=2).result()
    assert server.asked[-1]["logprobs"] is True and server.asked[-1]["top_logprobs"] == 2
    (token,) = answer.logprobs or ()
    assert (token.token, token.id, math.exp(token.logprob)) == ("Two", 7, pytest.approx(0.75))
    assert [(top.token, top.id) for top in token.top] == [("Two", -1), ("2", -1)]
    server.logprobs = None
    assert engine.ask(None, "How many?", top_logprobs=2).result().logprobs is None


def test_a_thought_of_no_tokens_is_none(engine: RemoteEngine, server: FakeServer) -> None:
    budget = Budget(answer_tokens=64, thinking_tokens=0)
    engine.ask(None, "Who?", think=True, budget=budget).result(10)
    (asked,) = server.asked
    assert asked["max_tokens"] == 64
    assert asked["messages"][0]["content"][-1]["text"] == "Who? /no_think"


def test_a_grammar_that_nobody_holds_to_is_refused(
    engine: RemoteEngine, server: FakeServer
) -> None:
    with pytest.raises(EngineError, match="grammar"):
        engine.ask(None, "Who?", sampling=Sampling(grammar='root ::= "yes"')).result(10)
    assert not server.asked


def test_a_deadline_leaves_the_rest_unknown(
    engine: RemoteEngine, server: FakeServer, clip: Clip
) -> None:
    engine.load()
    server.delay_s = 1.0
    began = time.monotonic()
    seen = engine.decide(clip, ["a", "b", "c"], budget=Budget(seconds=1.7)).result(10)
    assert time.monotonic() - began < 3
    assert [d.reason for d in seen.decisions] == [None, "deadline", "deadline"]
    assert engine.state == "ready", "slow is not down"


def test_a_server_that_sends_a_little_now_and_then_is_too_late(
    engine: RemoteEngine, server: FakeServer, clip: Clip
) -> None:
    engine.load()
    server.drip_s = 0.05
    began = time.monotonic()
    seen = engine.decide(clip, ["a"], budget=Budget(seconds=0.5)).result(30)
    assert time.monotonic() - began < 5
    assert [decision.reason for decision in seen.decisions] == ["deadline"]
    assert engine.state == "ready", "late is not gone"


def test_cancel_ends_a_request_that_is_under_way(
    engine: RemoteEngine, server: FakeServer, clip: Clip
) -> None:
    engine.load()
    server.delay_s = 5
    pending = engine.decide(clip, ["a", "b"])
    time.sleep(0.2)
    began = time.monotonic()
    pending.cancel()
    assert {d.reason for d in pending.result(2).decisions} == {"cancelled"}
    assert time.monotonic() - began < 1


def test_a_server_that_goes_is_noticed_and_comes_back(
    server: FakeServer, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_CHECK_DOWN_S", 0.05)
    monkeypatch.setattr(remote, "_CHECK_S", 0.05)
    engine = RemoteEngine(server.url)
    engine.load()
    server.status = 503
    with pytest.raises(EngineDownError, match="503"):
        engine.decide(clip, ["a"]).result(5)
    assert engine.state == "down"
    with pytest.raises(EngineDownError):
        engine.decide(clip, ["a"]).result(5)
    server.status = 200
    end = time.monotonic() + 5
    while engine.state != "ready":
        assert time.monotonic() < end
        time.sleep(0.01)
    assert engine.decide(clip, ["a"]).result(5).decisions[0].answer == "yes"
    engine.close()
    with pytest.raises(ClosedError):
        engine.decide(clip, ["a"])


def test_a_refusal_is_no_death(engine: RemoteEngine, server: FakeServer, clip: Clip) -> None:
    engine.load()
    server.status = 400
    with pytest.raises(EngineError, match="400") as caught:
        engine.decide(clip, ["a"]).result(5)
    assert not isinstance(caught.value, EngineDownError) and engine.state == "ready"


def test_one_of_two_is_killed_and_the_rules_go_on(clip: Clip) -> None:
    first, second = FakeServer(), FakeServer()
    second.content, second.logprobs = "No", None
    both = Failover([RemoteEngine(first.url), RemoteEngine(second.url)])
    try:
        both.load()
        assert both.decide(clip, ["a"]).result(5).decisions[0].answer == "yes"
        first.stop()
        assert both.decide(clip, ["a"]).result(5).decisions[0].answer == "no", "the same window"
        assert both.decide(clip, ["a"]).result(5).decisions[0].answer == "no"
        assert both.state == "ready" and both.slots == 2
        second.stop()
        with pytest.raises(EngineDownError):
            both.decide(clip, ["a"]).result(5)
        assert both.state == "down"
    finally:
        both.close()


def test_two_share_the_work(clip: Clip) -> None:
    servers = [FakeServer(), FakeServer()]
    both = Failover([RemoteEngine(server.url) for server in servers])
    try:
        for server in servers:
            server.delay_s = 0.3
        pending = [both.decide(clip, ["a"]) for _ in range(2)]
        for each in pending:
            each.result(5)
        assert [len(server.asked) for server in servers] == [1, 1]
    finally:
        both.close()
        for server in servers:
            server.stop()


def test_the_next_engine_gets_what_is_left_of_the_time(clip: Clip) -> None:
    budgets: list[Budget | None] = []

    class Slow:
        name, state, slots = "slow", "ready", 1

        def decide(self, clip: Clip, rules: Any, *, budget: Budget | None = None) -> Any:
            budgets.append(budget)
            time.sleep(0.3)
            return refused(EngineDownError("gone"))

        def ask(self, clip: Any, question: str, *, emit: Any = None, budget: Any = None) -> Any:
            return self.decide(clip, (), budget=budget)

    both = Failover([Slow(), Slow()])  # type: ignore[list-item]
    starts: list[Callable[[Budget], Any]] = [
        lambda budget: both.decide(clip, ["a"], budget=budget),
        lambda budget: both.ask(clip, "a", budget=budget),
    ]
    for start in starts:
        budgets.clear()
        with pytest.raises(EngineDownError):
            start(Budget(seconds=50, visual_tokens=64)).result(5)
        first, second = (each for each in budgets if each is not None)
        assert first.seconds is not None and second.seconds is not None
        assert second.seconds <= first.seconds - 0.3 < first.seconds <= 50
        assert first.visual_tokens == second.visual_tokens == 64
