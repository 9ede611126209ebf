from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import uvicorn
from starlette.applications import Starlette

from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from miloco_edge.hub.settings import JournalSettings
from miloco_edge.serve import events
from miloco_edge.serve.app import create_app, drain
from tests.hub.home import Camera, FakeEngine, home, until
from tests.serve.fake import FACTS, Fake, served


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[str, Camera, Hub, Starlette]]:
    """A hub behind a real server: the test client cannot follow a stream that does not end."""
    camera = Camera()
    settings = home(tmp_path, journal=JournalSettings(tmp_path / "journal.sqlite", evidence=True))
    hub = Hub(settings, FakeEngine(), sources={"hall": camera})
    app = create_app(hub.engine, FACTS, hub=hub)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    with camera:
        thread.start()
        until(lambda: server.started, 30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", camera, hub, app
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def follow(address: str, found: list[dict[str, Any]], **headers: str) -> threading.Thread:
    """Collects events until the stream ends."""

    def read() -> None:
        with urlopen(Request(address, headers=headers), timeout=60) as stream:
            number = ""
            for raw in stream:
                line = raw.decode().rstrip("\n")
                if line.startswith("id: "):
                    number = line[4:]
                if line.startswith("data: "):
                    document = json.loads(line[6:])
                    assert document["id"] == number
                    found.append(document)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def test_events_are_told_with_their_pictures(
    watched: tuple[str, Camera, Hub, Starlette],
) -> None:
    address, camera, _, app = watched
    found: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    following = follow(f"{address}/v1/events?camera=hall", found)
    follow(f"{address}/v1/events?camera=other", others)
    until(lambda: len(app.state.serving.listeners) == 2, 30)
    camera.show(220)
    until(lambda: any(each["state"] == "on" for each in found), 60)
    lit = next(each for each in found if each["state"] == "on")
    assert lit["camera"] == "hall" and lit["rule"]["id"] == "lit"
    picture = lit["evidence"]["frame"]
    assert picture == f"/v1/events/{lit['id']}/picture"
    with urlopen(address + picture, timeout=30) as reply:
        assert reply.headers["Content-Type"] == "image/jpeg" and reply.read(2) == b"\xff\xd8"
    later: list[dict[str, Any]] = []
    follow(f"{address}/v1/events", later, **{"Last-Event-ID": "0" * 16})
    until(lambda: any(each["id"] == lit["id"] for each in later), 30)
    assert not others
    drain(app)
    following.join(30)
    assert not following.is_alive(), "a stream outlives the server"


def test_an_event_that_comes_while_the_missed_are_read_is_told_once(
    watched: tuple[str, Camera, Hub, Starlette], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, camera, hub, app = watched

    def read_late(path: Path, **options: Any) -> Iterator[dict[str, Any]]:
        until(lambda: hub._listeners, 8)
        camera.show(220)
        until(lambda: any(each["state"] == "on" for each in query(path)), 8)
        return iter(query(path, **options))

    monkeypatch.setattr(events, "query", read_late)
    found: list[dict[str, Any]] = []
    following = follow(f"{address}/v1/events", found, **{"Last-Event-ID": "0" * 16})
    until(lambda: any(each["state"] == "on" for each in found), 8)
    time.sleep(0.2)
    numbers = [each["id"] for each in found]
    assert len(numbers) == len(set(numbers))
    drain(app)
    following.join(8)


def test_without_a_hub_there_are_no_events() -> None:
    with served(Fake()) as client:
        assert client.get("/v1/events").status_code == 404
        assert client.get("/v1/events/../../etc/passwd/picture").status_code == 404
