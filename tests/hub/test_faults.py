"""What goes wrong under a hub that watches: each told rightly, survived, and in the journal."""

from __future__ import annotations

import io
import os
import signal
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miloco_edge.engine.child import ChildEngine
from miloco_edge.engine.child_limits import Limits
from miloco_edge.engine.failover import Failover
from miloco_edge.engine.remote import RemoteEngine
from miloco_edge.hub.event import Event
from miloco_edge.hub.gate import GateSettings
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from miloco_edge.registry.whole import write_whole
from miloco_edge.video.address import Address
from tests.engine.test_child import FAKE
from tests.engine.test_remote import FakeServer
from tests.hub.home import RULE, Camera, FakeEngine, home, states, until
from tests.video.test_web import camera as http_camera
from tests.video.test_web import send

NO_GATE = GateSettings(enabled=False)


def told(events: list[Event]) -> list[tuple[str, str | None]]:
    return [(event.state, event.reason) for event in events]


def journalled(folder: Path) -> list[str]:
    return [document["id"] for document in query(folder / "journal.sqlite")]


@pytest.mark.parametrize("deed", ["abort", "die", "out_of_memory", "hang", "kill"])
def test_a_childs_end_costs_one_window(tmp_path: Path, deed: str) -> None:
    events: list[Event] = []
    deeds = tmp_path / "deed"
    limits = Limits(unbounded_s=5.0 if deed == "hang" else 1800.0, backoff_s=(0, 0.2))
    child = ChildEngine(deeds, command=FAKE, limits=limits)
    with (
        Camera(level=200) as camera,
        Hub(home(tmp_path, gate=NO_GATE), child, sources={"hall": camera}) as hub,
    ):
        hub.on_event(events.append)
        until(lambda: states(events) == ["on"], 60)
        first = child.pid
        write_whole(deeds, "hang" if deed == "kill" else deed)
        if deed == "kill":
            until(lambda: not deeds.exists(), 60)
            assert first is not None
            os.kill(first, signal.SIGKILL)
        until(lambda: len(events) == 3, 60)
        assert child.restarts == 1 and child.pid != first
        camera.show(40)
        until(lambda: len(events) == 4, 60)
    assert told(events) == [
        ("on", None), ("unknown", "engine_down"), ("on", "seen_again"), ("off", None),
    ]  # fmt: skip
    assert journalled(tmp_path) == [event.id for event in events]


@pytest.mark.parametrize("preferred", ["remote", "child"])
def test_one_of_two_engines_is_killed_and_the_rules_go_on(tmp_path: Path, preferred: str) -> None:
    """The server says yes whatever it is shown; the child can tell."""
    events: list[Event] = []
    server, deeds = FakeServer(), tmp_path / "deed"
    remote = RemoteEngine(server.url)
    child = ChildEngine(deeds, command=FAKE, limits=Limits(backoff_s=(0,)))
    both = Failover([remote, child] if preferred == "remote" else [child, remote])
    with (
        Camera(level=200) as camera,
        Hub(home(tmp_path, gate=NO_GATE), both, sources={"hall": camera}) as hub,
    ):
        hub.on_event(events.append)
        until(lambda: states(events) == ["on"], 60)
        asked = len(server.asked)
        assert (asked > 0) == (preferred == "remote")
        if preferred == "remote":
            server.stop()
        else:
            write_whole(deeds, "abort")
            until(lambda: len(server.asked) > asked, 60)
        until(lambda: child.state == "ready", 60)
        camera.show(40)
        until(lambda: states(events) == ["on", "off"], 60)
    assert told(events) == [("on", None), ("off", None)], "no window was lost"
    assert journalled(tmp_path) == [event.id for event in events]
    if preferred == "child":
        server.stop()


class Porch:
    """An HTTP camera that is asked for picture after picture, and what is the matter with it."""

    def __init__(self) -> None:
        self.level, self.fault = 200, ""
        self._random = np.random.default_rng(3)

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        match self.fault:
            case "garbage":
                send(handler, "image/jpeg", b"no picture at all")
            case "wrong password":
                handler.send_error(401)
            case _:
                if self.fault == "slow":
                    time.sleep(0.4)
                send(handler, "image/jpeg", self._picture())

    def _picture(self) -> bytes:
        height, width = (96, 128) if self.fault == "another resolution" else (48, 64)
        y, x = np.mgrid[0:height, 0:width]
        pattern = ((x // 8 + y // 8) % 2 * 40 - 20)[..., None]
        noise = self._random.integers(-3, 4, (height, width, 3))
        pixels = np.clip(self.level + pattern + noise, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        return file.getvalue()


@pytest.mark.parametrize("fault", ["garbage", "wrong password", "slow", "another resolution"])
def test_a_cameras_faults(tmp_path: Path, fault: str) -> None:
    events: list[Event] = []
    porch, settings = Porch(), home(tmp_path)
    blind = fault in ("garbage", "wrong password")
    with http_camera(porch) as place:
        address = Address.parse(f"http://{place}")
        hall = replace(settings.cameras["hall"], source=address, timeout_s=1.0)
        with Hub(replace(settings, cameras={"hall": hall}), FakeEngine()) as hub:
            hub.on_event(events.append)
            until(lambda: states(events) == ["on"], 30)
            porch.fault = fault
            if blind:
                until(lambda: len(events) == 2, 30)
                porch.fault = ""
                until(lambda: len(events) == 3, 30)
            elif fault == "another resolution":
                until(lambda: hub.status().feeds["hall"].size == (128, 96), 30)
            porch.level = 40
            until(lambda: states(events)[-1] == "off", 30)
    unseen = [("unknown", "stale"), ("on", "seen_again")] if blind else []
    assert told(events) == [("on", None), *unseen, ("off", None)]
    assert journalled(tmp_path) == [event.id for event in events]


def test_a_full_disk_costs_no_event(tmp_path: Path) -> None:
    """SQLite's own refusal: the file may not grow, and each event would need it to."""
    events: list[Event] = []
    long = replace(RULE, text="The room is bright. " * 1000)
    with (
        Camera(level=40) as camera,
        Hub(home(tmp_path, long), engine := FakeEngine(), sources={"hall": camera}) as hub,
    ):
        hub.on_event(events.append)
        until(lambda: engine.shown)

        def allow(pages: int) -> None:
            with hub.journal._lock:
                hub.journal._database.execute(f"PRAGMA max_page_count={pages}").fetchall()

        allow(1)  # as many as there are
        for level, state in ((200, "on"), (40, "off")):
            camera.show(level)
            until(lambda state=state: states(events)[-1:] == [state])
        assert "full" in (hub.status().journal_error or "") and journalled(tmp_path) == []
        allow(100_000)
        camera.show(200)
        until(lambda: len(events) == 3 and hub.status().journal_error is None)
    assert states(events) == ["on", "off", "on"]
    assert journalled(tmp_path) == [event.id for event in events] and hub.journal.lost == 0
