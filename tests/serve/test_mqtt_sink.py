"""A sink of kind mqtt where there is no broker, or no aiomqtt. With one: tests/integration."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import aiomqtt
import pytest

from miloco_edge import Answer, Timings, Usage
from miloco_edge.cli.sinks import sink_kinds
from miloco_edge.engine.protocol import Pending
from miloco_edge.errors import MilocoEdgeError
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import Journal, query
from miloco_edge.hub.settings import MqttSink
from miloco_edge.serve.mqtt import Mqtt
from miloco_edge.serve.mqtt_asking import Asking
from tests.hub.home import Camera, FakeEngine, home, until


def no_broker() -> MqttSink:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return MqttSink("mqtt", port=port)


def test_a_hub_by_itself_knows_no_mqtt(tmp_path: Path) -> None:
    hub = Hub(home(tmp_path, sinks={"mqtt": MqttSink("mqtt")}), FakeEngine())
    with pytest.raises(MilocoEdgeError, match="got mqtt of kind mqtt") as refused:
        hub.start()
    assert "sinks={MqttSink" in (refused.value.hint or "")
    hub.close()


def test_without_a_broker_events_are_owed_and_the_hub_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    made = home(tmp_path, sinks={"mqtt": no_broker()})
    with (
        Camera(level=200) as camera,
        Hub(made, FakeEngine(), sources={"hall": camera}, sinks=sink_kinds(made)) as hub,
    ):
        until(lambda: path.is_file() and list(query(path)), 60)
        until(lambda: hub.status().sinks["mqtt"], 60)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    journal = Journal(path)
    owed = [event.id for event in journal.owed("mqtt", 10)]
    journal.close()
    assert owed and owed == [document["id"] for document in query(path)]


def test_a_picture_that_the_broker_refuses_is_said_and_not_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Strict:
        async def publish(self, *_: object, **__: object) -> None:
            raise aiomqtt.MqttError("the packet is too large")

    picture = tmp_path / "id1.jpg"
    picture.write_bytes(b"a large one")
    hub = Hub(home(tmp_path), FakeEngine())
    sink = Mqtt(hub, no_broker())
    for path in (picture, tmp_path / "pruned.jpg", tmp_path):
        asyncio.run(sink._show(cast(aiomqtt.Client, Strict()), "hall", path))
    sink.close()
    hub.close()
    assert "camera hall, got: the packet is too large" in caplog.text
    assert caplog.text.count("expected to publish a picture") == 2, "one was merely too old"


def test_a_question_whose_time_ran_out_is_answered_with_an_error() -> None:
    answer = Answer("Who?", "", None, "deadline", Usage(), Timings())
    said: list[dict[str, Any]] = []

    class Silent:
        def ask(self, *_: object, **__: object) -> Pending[Answer]:
            future: Future[Answer] = Future()
            future.set_result(answer)
            return Pending(future, lambda: None)

    class Connected:
        async def publish(self, _: str, payload: str, **__: object) -> None:
            said.append(json.loads(payload))

    async def ask() -> None:
        asking = Asking(cast(Hub, Silent()), MqttSink("mqtt"))
        asking.ask(cast(aiomqtt.Client, Connected()), "hall", b"Who?")
        await asyncio.gather(*asking._tasks)

    asyncio.run(ask())
    assert [(each["answer"], each["error"]) for each in said] == [
        (None, "no answer: the time ran out")
    ]


def test_a_home_that_needs_the_extra_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miloco_edge.cli.sinks.find_spec", lambda name: None)
    assert sink_kinds(home(tmp_path)) == {}, "a home without such a sink needs nothing"
    with pytest.raises(MilocoEdgeError, match="expected the extra mqtt") as missing:
        sink_kinds(home(tmp_path, sinks={"mqtt": MqttSink("mqtt")}))
    assert missing.value.hint == "pip install 'miloco-edge[mqtt]'"
