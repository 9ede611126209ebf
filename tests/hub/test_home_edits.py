"""A home.toml that is edited while the hub runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from miloco_edge.errors import ConfigError, MilocoEdgeError
from miloco_edge.hub import config
from miloco_edge.hub.clock import Clock
from miloco_edge.hub.event import Event
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.settings import MqttSink
from miloco_edge.video.played import Pushed
from tests.hub.home import Camera, FakeEngine, states, until

HOME = """
[camera.hall]
source = 0
interval_s = 0.1
seconds = 0.2
fps = 20
[gate]
busy_s = 0.1
[rule.lit]
text = "The room is bright"
cameras = ["hall"]
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    path = tmp_path / "home.toml"
    path.write_text(HOME)
    with Camera() as camera:
        hub = Hub(config.read(path), FakeEngine(), sources={"hall": camera})
        hub.camera = camera  # type: ignore[attr-defined]
        with hub:
            yield hub


def test_a_new_rule_is_taken_over_and_the_old_ones_go_on(hub: Hub) -> None:
    events: list[Event] = []
    hub.on_event(events.append)
    hub.camera.show(200)  # type: ignore[attr-defined]
    until(lambda: states(events) == ["on"])
    other = '[rule.empty]\ntext = "The room is empty"\ncameras = ["hall"]\n'
    hub.home.path.write_text(HOME + other)
    changes = hub.reload()
    assert changes.rules == {"empty"} and not changes.cameras
    until(lambda: len(events) == 2)
    time.sleep(0.3)
    assert [(e.rule.id, e.state) for e in events] == [("lit", "on"), ("empty", "on")]
    assert not hub.reload(), "nothing changed since"


def test_a_rule_that_is_edited_while_it_is_on_ends_once(hub: Hub) -> None:
    events: list[Event] = []
    hub.on_event(events.append)
    hub.camera.show(160)  # type: ignore[attr-defined]
    until(lambda: states(events) == ["on"])
    shown = len(hub.engine.shown)  # type: ignore[attr-defined]
    hub.home.path.write_text(HOME + "priority = 1\n")
    assert hub.reload().rules == {"lit"}
    until(lambda: len(hub.engine.shown) > shown)  # type: ignore[attr-defined]
    hub.camera.show(230)  # type: ignore[attr-defined]  # what stays as it is is not looked at again
    until(lambda: len(hub.engine.shown) > shown + 1)  # type: ignore[attr-defined]
    zone = "zones.floor = [[0, 0], [1, 0], [1, 1]]\n[gate]"
    hub.home.path.write_text(HOME.replace("[gate]", zone) + 'zone = "floor"\n')
    hub.reload()
    hub.camera.show(40)  # type: ignore[attr-defined]
    until(lambda: states(events) == ["on", "off"])


def test_a_new_camera_is_not_missed_before_it_could_connect(tmp_path: Path) -> None:
    path, events, hours = tmp_path / "home.toml", list[Event](), [0.0]
    path.write_text(HOME)
    clock = Clock(steady=lambda: time.monotonic() + 3600 * hours[0])
    sources = {"hall": Pushed("hall"), "porch": Pushed("porch")}
    with Hub(config.read(path), FakeEngine(), sources=sources, clock=clock) as hub:
        hub.on_event(events.append)
        hours[0] = 1.0
        until(lambda: events)
        path.write_text(HOME.replace("[gate]", "[camera.porch]\nsource = 1\n[gate]"))
        path.write_text(path.read_text().replace('["hall"]', '["hall", "porch"]'))
        assert hub.reload().cameras == {"porch"}
        time.sleep(0.6)
    assert [(event.camera, event.reason) for event in events] == [("hall", "stale")]


def test_a_rule_that_is_gone_is_no_longer_told(hub: Hub) -> None:
    events: list[Event] = []
    hub.on_event(events.append)
    until(lambda: hub.engine.shown)  # type: ignore[attr-defined]
    hub.home.path.write_text(HOME[: HOME.index("[rule.lit]")])
    hub.reload()
    hub.camera.show(200)  # type: ignore[attr-defined]
    time.sleep(0.5)
    assert not events and hub.status().views == ()


def test_a_sink_that_is_called_as_a_callback_is(hub: Hub) -> None:
    events: list[Event] = []
    hub.on_event(events.append)
    for name in ("one", "other"):
        sink = f'[sink.callback]\nkind = "lines"\npath = "{name}.jsonl"\n'
        hub.home.path.write_text(HOME + sink)
        assert hub.reload().sinks == {"callback"}
    assert len(hub.outlets) == 2
    hub.camera.show(200)  # type: ignore[attr-defined]
    until(lambda: states(events) == ["on"])
    until((hub.home.path.parent / "other.jsonl").exists)


def test_a_sink_that_is_slow_to_leave_holds_up_nobody(tmp_path: Path) -> None:
    leaving, release = threading.Event(), threading.Event()

    class Slow:
        name = "mqtt"

        def send(self, _: Event) -> None:
            pass

        def close(self) -> None:
            leaving.set()
            release.wait(60)

    path = tmp_path / "home.toml"
    path.write_text(HOME + "[sink.mqtt]\nport = 1883\n")
    home, kinds = config.read(path), {MqttSink: lambda *_: Slow()}
    with (
        Camera() as camera,
        ThreadPoolExecutor() as editor,
        Hub(home, FakeEngine(), sources={"hall": camera}, sinks=kinds) as hub,
    ):
        path.write_text(HOME + "[sink.mqtt]\nport = 1884\n")
        edit = editor.submit(hub.reload)
        assert leaving.wait(60)
        time.sleep(0.6)  # longer than an outlet is given
        assert not edit.done()
        began = time.monotonic()
        assert hub.status().views[0].camera == "hall"
        assert time.monotonic() - began < 3
        release.set()
        assert edit.result(8).sinks == {"mqtt"}
        assert [outlet.sink.name for outlet in hub.outlets] == ["mqtt"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("[rule.lit", "TOML"),
        (HOME + "colour = 3\n", "colour"),
        ('model = "demo"\n' + HOME, "models"),
        (HOME + '[sink.mqtt]\nhost = "127.0.0.1"\n', "kind mqtt"),
    ],
)
def test_what_is_wrong_is_refused_and_the_old_home_stays(hub: Hub, edit: str, said: str) -> None:
    before = hub.home
    before.path.write_text(edit)
    with pytest.raises(MilocoEdgeError, match=said) as refused:
        hub.reload()
    assert isinstance(refused.value, ConfigError) or "mqtt" in said
    assert hub.home is before
    events: list[Event] = []
    hub.on_event(events.append)
    hub.camera.show(200)  # type: ignore[attr-defined]
    until(lambda: states(events) == ["on"])
