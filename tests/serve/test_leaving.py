"""Clients that leave, wait too long, or are sent away: over real connections."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from miloco_edge.errors import ClosedError
from miloco_edge.serve.app import create_app
from miloco_edge.serve.run import _bind, _patient, _Server
from miloco_edge.serve.settings import Limits
from tests.hub.home import until
from tests.serve.fake import FACTS, Fake, picture, user

LIMITS = Limits(header_s=0.5, body_s=0.5, waiting=1)


class Running:
    """A real server over the fake; it ends with its context."""

    def __init__(self) -> None:
        self.engine = Fake(says=("One. ", "Two."), hold=threading.Event())
        self.app = create_app(self.engine, FACTS, limits=LIMITS)
        taken = _bind("127.0.0.1", 0)
        self.port: int = taken.getsockname()[1]
        config = uvicorn.Config(
            self.app, http=_patient(LIMITS.header_s), log_config=None, ws="none",
            timeout_graceful_shutdown=20,
        )  # fmt: skip
        self.listening = threading.Event()
        self.server = _Server(config, self.app, self.listening.set)
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [taken]}, daemon=True
        )
        self.thread.start()
        assert self.listening.wait(60)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.engine.hold is not None
        self.engine.hold.set()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def ask(self, **body: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        document = {"messages": [{"role": "user", "content": "Who?"}], **body}
        connection.request("POST", "/v1/chat/completions", json.dumps(document))
        return connection

    @property
    def turns(self) -> Any:
        return self.app.state.serving.turns


@pytest.fixture
def running() -> Iterator[Running]:
    with Running() as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_stops_when_its_client_leaves(running: Running, stream: bool) -> None:
    connection = running.ask(stream=stream)
    until(lambda: running.turns.active == 1, 30)
    if stream:
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
    connection.close()
    until(lambda: running.engine.cancelled == ["Who?"], 30)
    until(lambda: running.turns.active == 0, 30)


def test_too_many_are_sent_away_and_the_rest_are_served(running: Running) -> None:
    first = running.ask()
    until(lambda: running.turns.active == 1, 30)
    second = running.ask()
    until(lambda: running.turns.waiting == 1, 30)
    third = running.ask()
    reply = third.getresponse()
    assert reply.status == 429 and int(reply.headers["Retry-After"]) >= 1
    reply.read()
    assert running.engine.hold is not None
    running.engine.hold.set()
    for connection in (first, second):
        reply = connection.getresponse()
        assert reply.status == 200 and b"One. Two." in reply.read()
    for connection in (first, second, third):
        connection.close()


def test_clips_that_wait_take_no_more_memory_than_they_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = 2 * 56 * 56 * 3
    monkeypatch.setattr("tests.serve.test_leaving.LIMITS", Limits(waiting=5, waiting_bytes=two))
    messages = [user("Who?", picture())]
    with Running() as running:
        clips = running.app.state.serving.clips
        asked = []
        for count in (1, 2):
            asked.append(running.ask(messages=messages))
            until(lambda count=count: len(clips) == count, 60)
        asked.append(running.ask(messages=messages))
        reply = asked[-1].getresponse()
        assert reply.status == 429 and reply.headers["Retry-After"]
        reply.read()
        asked.append(running.ask())  # words alone may wait
        assert running.engine.hold is not None
        running.engine.hold.set()
        for connection in (*asked[:2], asked[-1]):
            reply = connection.getresponse()
            assert reply.status == 200 and reply.read()
        until(lambda: not clips, 30)
        for connection in asked:
            connection.close()


def test_who_is_being_answered_may_end_when_the_server_stops(running: Running) -> None:
    first = running.ask()
    until(lambda: running.turns.active == 1, 30)
    second = running.ask()
    until(lambda: running.turns.waiting == 1, 30)
    running.server.should_exit = True
    reply = second.getresponse()
    assert reply.status == 503 and reply.headers["Retry-After"]
    reply.read()
    assert running.engine.hold is not None
    running.engine.hold.set()
    answered = first.getresponse()
    assert answered.status == 200 and b"One. Two." in answered.read()
    first.close()
    second.close()


def test_a_server_that_ends_while_the_model_loads_reports_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Slow(Fake):
        def load(self) -> None:
            assert closed.wait(60)
            raise ClosedError("expected an open engine, got one that was closed")

        def close(self) -> None:
            closed.set()

    closed = threading.Event()
    with TestClient(create_app(Slow(), FACTS)):
        pass
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
    ],
)
def test_who_sends_nothing_is_not_waited_for(running: Running, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as slow:
        began = time.monotonic()
        slow.sendall(sent)
        said = b""
        while piece := slow.recv(4096):
            said += piece
            if b"body_too_slow" in said:
                break
        assert time.monotonic() - began < 20
        assert not said or b"408" in said
