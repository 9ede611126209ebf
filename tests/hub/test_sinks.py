from __future__ import annotations

import json
import resource
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from miloco_edge.hub import sinks
from miloco_edge.hub.event import Event
from miloco_edge.hub.journal import Journal
from miloco_edge.hub.sinks import Callback, Lines, Outlet, Webhook
from tests.hub.home import until
from tests.hub.test_journal import event


class Receiver(ThreadingHTTPServer):
    """Takes posts; answers with the statuses it is given, then with 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.statuses: list[int] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?room=1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, Receiver)
        self.server.got.append((self.path, dict(self.headers), body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
        receiver.shutdown()


def test_a_webhook_gets_the_event_with_its_token(receiver: Receiver) -> None:
    told = event(1)
    Webhook("hook", receiver.url, token="hush").send(told)
    ((path, headers, body),) = receiver.got
    assert path == "/hook?room=1" and body == told.document()
    assert headers["Authorization"] == "Bearer hush" and headers["Idempotency-Key"] == told.id


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_takes_only_2xx_for_delivered(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    with pytest.raises(OSError, match=str(status)):
        Webhook("hook", receiver.url).send(event(1))
    assert len(receiver.got) == 1, "no redirect is followed"


def test_what_could_not_be_sent_is_sent_later_in_order(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_BACKOFF_S", (0.01, 0.02))
    receiver.statuses = [500, 500, 500]
    outlet = Outlet(Webhook("hook", receiver.url))
    for number in range(3):
        outlet.put(event(number))
    until(lambda: outlet.sent == 3)
    assert [body["id"] for *_, body in receiver.got[3:]] == ["id0", "id1", "id2"]
    assert outlet.error is None and outlet.dropped == 0
    outlet.close()


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    told = [event(1), event(2)]
    for each in told:
        Lines("lines", path).send(each)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        each.document() for each in told
    ]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = Lines("lines", path)
    sink.send(event(1))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, unlimited[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            sink.send(event(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, before)
    sink.send(event(2))
    ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert ids == ["id1", "id2"]


def test_a_slow_sink_is_bounded_and_close_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sinks, "_WAITING", 5)
    heard: list[Event] = []
    release = threading.Event()

    def slow(told: Event) -> None:
        release.wait(20)
        heard.append(told)

    outlet = Outlet(Callback(slow))
    for number in range(20):
        outlet.put(event(number))
    assert outlet.dropped >= 14
    began = time.monotonic()
    outlet.close(0.2)
    assert time.monotonic() - began < 1 and "not sent" in caplog.text
    release.set()


def test_a_callback_that_raises_hears_the_next(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def picky(told: Event) -> None:
        heard.append(told.id)
        if told.id == "id1":
            raise RuntimeError("not that one")

    outlet = Outlet(Callback(picky))
    outlet.put(event(1))
    outlet.put(event(2))
    until(lambda: heard == ["id1", "id2"])
    outlet.close()
    assert "not that one" in caplog.text


class Flaky:
    """A sink that takes nothing until it is told to."""

    name = "far"

    def __init__(self) -> None:
        self.up = False
        self.got: list[str] = []

    def send(self, told: Event) -> None:
        if not self.up:
            raise OSError("away")
        self.got.append(told.id)

    def close(self) -> None:
        pass


def test_what_a_journal_holds_reaches_a_sink_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_BACKOFF_S", (0.01,))
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.debtors = ("far",)
    sink = Flaky()
    outlet = Outlet(sink, journal)
    for number in range(3):
        journal.commit([event(number)])
        outlet.put(event(number))
    until(lambda: outlet.error == "away")
    outlet.close()
    journal.close()

    journal, sink = Journal(path), Flaky()
    journal.debtors, sink.up = ("far",), True
    outlet = Outlet(sink, journal)
    until(lambda: outlet.sent == 3)
    journal.commit([event(3)])
    outlet.put(event(3))
    until(lambda: outlet.sent == 4)
    assert sink.got == ["id0", "id1", "id2", "id3"] and outlet.dropped == 0
    until(lambda: journal.owed("far", 10) == [])
    outlet.close()
    journal.close()


def test_more_than_fits_into_memory_comes_from_the_journal_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_BACKOFF_S", (0.01,))
    monkeypatch.setattr(sinks, "_WAITING", 5)
    journal = Journal(tmp_path / "journal.sqlite")
    journal.debtors = ("far",)
    sink = Flaky()
    outlet = Outlet(sink, journal)
    for number in range(23):
        journal.commit([event(number)])
        outlet.put(event(number))
    assert len(outlet._waiting) <= 5
    sink.up = True
    until(lambda: outlet.sent == 23)
    assert sink.got == [f"id{number}" for number in range(23)] and outlet.dropped == 0
    outlet.close()
    journal.close()


def test_an_event_that_a_sink_cannot_take_is_not_owed_for_ever(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.debtors = ("callback",)

    class Broken(Flaky):
        name = "callback"

        def send(self, told: Event) -> None:
            raise ValueError("no such colour")

    outlet = Outlet(Broken(), journal)
    journal.commit([event(1)])
    outlet.put(event(1))
    until(lambda: outlet.error is not None and not journal.owed("callback", 1))
    outlet.close()
    assert journal.owed("callback", 1) == []
    journal.close()
    assert journal.owed("callback", 1) == [], "closed: said in the log"
