"""A hub at a real mosquitto: discovery, states, questions, and what happens when either is away."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.secrets import Secret
from miloco_edge.hub.settings import JournalSettings, MqttSink
from miloco_edge.serve.mqtt import Mqtt
from miloco_edge.serve.mqtt_client import client, try_once
from tests.hub.home import RULE, Camera, FakeEngine, home
from tests.integration.broker import SECONDS, Broker, Spy, until
from tests.integration.mqtt_hub import calm
from tests.serve.home_assistant import check_device

pytestmark = pytest.mark.integration

AWAY_S = float(os.environ.get("MILOCO_EDGE_BROKER_AWAY_S", "20"))
"""How long the broker is away in the test of a long absence; 600 is what was asked for."""
DEVICE = "homeassistant/device/miloco_edge_hall/config"
STATE = "miloco_edge/hall/lit/state"
ONLINE = "miloco_edge/status"
FLASH = Rule("flash", "There is a flash", cameras=("hall",), kind="event")


@contextmanager
def watched(folder: Path, sink: MqttSink, *rules: Rule, **changes: Any) -> Iterator[Any]:
    """A hub whose one camera shows what the test wants, connected to the broker."""
    made = calm(home(folder, *(rules or (RULE,)), **changes), sink)
    (name,) = made.cameras
    with (
        Camera(name, every_s=0.2) as camera,
        Hub(made, FakeEngine(), sources={name: camera}, sinks={MqttSink: Mqtt}) as hub,
    ):
        yield hub, camera


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


def told(folder: Path) -> list[str]:
    """Ids of the events in the journal, oldest first."""
    return [document["id"] for document in query(folder / "journal.sqlite")]


def odds(spy: Spy, rule: str) -> float:
    """The p_yes that came last; not a number before there is one, when it is published as None."""
    said = spy.last(f"miloco_edge/{rule}/p_yes")
    return math.nan if said in (None, "None") else float(said)


def test_discovery_states_and_events(broker: Broker, tmp_path: Path) -> None:
    journal = JournalSettings(tmp_path / "journal.sqlite", evidence=True)
    sink = MqttSink("mqtt", port=broker.port, pictures=True)
    with Spy(broker.port) as spy:
        with watched(tmp_path, sink, RULE, FLASH, journal=journal) as (_, camera):
            spy.wait(ONLINE, "online")
            spy.wait("miloco_edge/hall/status", "online")
            device = spy.documents("/config")[-1]
            check_device(DEVICE, device)
            platforms = {name: each["platform"] for name, each in device["components"].items()}
            assert platforms["rule_lit"] == "binary_sensor" and platforms["rule_flash"] == "event"
            spy.wait(STATE, "OFF")
            camera.show(200)
            spy.wait(STATE, "ON")
            until(lambda: len(spy.documents("/event")) >= 2, "both rules are told")
            until(lambda: odds(spy, "hall/lit") > 0.5, "p_yes")
            until(lambda: spy.last("miloco_edge/hall/latency"), "latency")
            camera.show(40)
            spy.wait(STATE, "OFF")
            until(lambda: len(spy.documents("/event")) == 3, "that it is over")
            types = [(e["rule"]["id"], e["event_type"]) for e in spy.documents("/event")]
            assert sorted(types) == [("flash", "fired"), ("lit", "off"), ("lit", "on")]
            pictures = [p for topic, p, _ in spy.heard if topic.endswith("/picture")]
            assert pictures and pictures[0].startswith(b"\xff\xd8\xff")
            with Spy(broker.port, "late") as late:
                until(lambda: late.last(ONLINE), "what is retained")
                retained = {topic for topic, _, kept in late.heard if kept}
            assert {DEVICE, STATE, "miloco_edge/hall/lit/attributes", ONLINE} <= retained
            assert not any(topic.endswith("/event") for topic in retained)
        spy.wait(ONLINE, "offline")
        heard = [e["id"] for e in spy.documents("/event")]
        assert sorted(heard) == sorted(told(tmp_path)), "two of them at the same moment"


def test_home_assistant_starts_and_a_person_asks(broker: Broker, tmp_path: Path) -> None:
    with Spy(broker.port) as spy:
        spy.publish("miloco_edge/hall/ask", "an old one", retain=True)
        with watched(tmp_path, MqttSink("mqtt", port=broker.port)) as (hub, _):
            spy.wait(STATE, "OFF")
            spy.heard.clear()
            spy.publish("homeassistant/status", "online")
            until(lambda: spy.last(DEVICE) and spy.last(STATE) == "OFF", "all is said again")
            check_device(DEVICE, json.loads(spy.last(DEVICE) or ""))

            spy.publish("miloco_edge/hall/ask", "Is anybody there?")
            until(lambda: spy.documents("/answer"), "an answer")
            (answer,) = spy.documents("/answer")
            assert answer["question"] == "Is anybody there?" and "frames" in answer["answer"]
            assert answer["error"] is None and answer["latency_s"] >= 0
            assert hub.engine.asked == ["Is anybody there?"], "not the one that lay there"
            for question in (b"\xff\xfe", b'{"question": "And now?", "id": "n1"}'):
                spy.publish("miloco_edge/hall/ask", question)
            spy.publish("miloco_edge/cellar/ask", "Who?")
            until(lambda: len(spy.documents("/answer")) == 4, "all are answered")
            others = {each["question"]: each for each in spy.documents("/answer")[1:]}
            assert "UTF-8" in others[""]["error"] and others["And now?"]["id"] == "n1"
            assert others["Who?"]["error"] == "the camera shows nothing"


def test_who_may_not_ask_is_not_heard(broker: Broker, tmp_path: Path) -> None:
    sink = MqttSink("mqtt", port=broker.port, ask=False)
    with Spy(broker.port) as spy, watched(tmp_path, sink) as (hub, _):
        spy.wait(STATE, "OFF")
        spy.publish("miloco_edge/hall/ask", "Is anybody there?")
        spy.publish("homeassistant/status", "online")
        time.sleep(1)
        assert hub.engine.asked == [] and spy.documents("/answer") == []
        assert "ask" not in json.loads(spy.last(DEVICE) or "")["components"]


def test_the_broker_is_started_anew(broker: Broker, tmp_path: Path) -> None:
    with Spy(broker.port) as spy, watched(tmp_path, MqttSink("mqtt", port=broker.port)) as made:
        hub, camera = made
        spy.wait(STATE, "OFF")
        broker.stop()
        until(lambda: hub.status().sinks["mqtt"], "the hub says that it is away")
        camera.show(200)
        until(lambda: len(told(tmp_path)) == 1, "an event meanwhile")
        spy.heard.clear()
        broker.start()
        spy.wait(STATE, "ON")
        spy.wait(ONLINE, "online")
        check_device(DEVICE, spy.documents("/config")[-1])
        until(lambda: not hub.journal.owed("mqtt", 1), "the broker has the event")
        until(lambda: hub.status().sinks["mqtt"] is None, "the hub says that it is there")


def test_a_long_absence_of_the_broker(tmp_path: Path) -> None:
    """MILOCO_EDGE_BROKER_AWAY_S=600 for the ten minutes that are promised."""
    with (
        Broker(tmp_path, persistent=True) as broker,
        Spy(broker.port) as spy,
        watched(tmp_path, MqttSink("mqtt", port=broker.port)) as (_, camera),
    ):
        spy.wait(ONLINE, "online")
        broker.stop()
        end = time.monotonic() + AWAY_S
        bright = False
        while time.monotonic() < end:
            bright = not bright
            camera.show(200 if bright else 40)
            time.sleep(min(5.0, AWAY_S / 4))
        spy.heard.clear()
        broker.start()
        began = time.monotonic()
        spy.wait(ONLINE, "online")
        back_s = time.monotonic() - began
        spy.wait(STATE, "ON" if bright else "OFF")
        until(lambda: len(spy.documents("/event")) >= len(told(tmp_path)), "all are told")
        heard = [e["id"] for e in spy.documents("/event")]
    assert len(heard) >= 2 and heard == told(tmp_path), "each once, in order"
    print(f"{AWAY_S:.0f} s away, back after {back_s:.1f} s, {len(heard)} events told")


def test_the_hub_is_started_anew_and_its_last_will(tmp_path: Path) -> None:
    script = "tests.integration.mqtt_hub"
    with Broker(tmp_path, persistent=True) as broker, Spy(broker.port) as spy:
        command = [sys.executable, "-m", script, str(tmp_path), str(broker.port)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
            spy.wait(ONLINE, "online")
            process.kill()
        spy.wait(ONLINE, "offline")
        assert spy.last(DEVICE), "Home Assistant still knows the camera"

        broker.stop()
        with watched(tmp_path, MqttSink("mqtt", port=broker.port)) as (_, camera):
            camera.show(200)
            until(lambda: len(told(tmp_path)) == 1, "an event that nobody hears")
        (missed,) = told(tmp_path)
        spy.heard.clear()
        broker.start()
        with watched(tmp_path, MqttSink("mqtt", port=broker.port)) as (hub, _):
            until(lambda: spy.documents("/event"), "it is told after the restart")
            until(lambda: spy.last(STATE) in ("ON", "OFF"), "how it is now")
            until(lambda: not hub.journal.owed("mqtt", 1), "the broker has all of them")
        assert [e["id"] for e in spy.documents("/event")].count(missed) == 1


def test_what_a_home_no_longer_has_goes_away(broker: Broker, tmp_path: Path) -> None:
    sink = MqttSink("mqtt", port=broker.port)
    with Spy(broker.port) as spy:
        with watched(tmp_path, sink, RULE, FLASH) as (hub, _):
            spy.wait(ONLINE, "online")
            until(lambda: spy.last("miloco_edge/hall/flash/p_yes"), "its figure")
            spy.heard.clear()
            hub.home = replace(hub.home, rules={RULE.id: RULE})  # as a reload does
            until(lambda: spy.last(DEVICE), "the device is announced again")
            until(lambda: len(spy.documents("/config")) >= 2, "in two steps")
            first, second = (each["components"] for each in spy.documents("/config")[:2])
            assert first["rule_flash"] == {"platform": "event"} and "rule_flash" not in second
            spy.wait("miloco_edge/hall/flash/p_yes", "")
        spy.publish("homeassistant/device/other/config", '{"name": "of others"}', retain=True)
        spy.heard.clear()
        moved = replace(RULE, cameras=("porch",))
        with watched(tmp_path, sink, moved, cameras=("porch",)):
            spy.wait(DEVICE, "")
            spy.wait(STATE, "")
            spy.wait("miloco_edge/hall/status", "")
            assert spy.last("homeassistant/device/miloco_edge_porch/config")
            assert spy.last("homeassistant/device/other/config") is None, "left alone"


# paho leaves the socket of a handshake that failed to Python.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_passwords_and_certificates(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    server, ours = authority.issue_cert("localhost"), authority.issue_cert("hub.local")
    for name, cert in (("server", server), ("hub", ours)):
        cert.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "hub", "open sesame"],
        check=True, capture_output=True,
    )  # fmt: skip
    settings = [
        f"cafile {tmp_path / 'ca.pem'}",
        f"certfile {tmp_path / 'server.pem'}",
        f"keyfile {tmp_path / 'server.key'}",
        f"password_file {tmp_path / 'users'}",
        "allow_anonymous false",
        "require_certificate true",
    ]
    right = MqttSink(
        "mqtt", host="localhost", tls=True, ca=tmp_path / "ca.pem",
        certificate=tmp_path / "hub.pem", key=tmp_path / "hub.key",
        user=Secret("hub"), password=Secret("open sesame"),
    )  # fmt: skip
    with Broker(tmp_path, *settings) as broker:
        right = replace(right, port=broker.port)
        try_once(right, SECONDS)
        wrong = {
            "another password": replace(right, password=Secret("guess")),
            "no login": replace(right, user=None, password=None),
            "an authority that did not sign": replace(right, ca=tmp_path / "stranger.pem"),
            "another name": replace(right, host="127.0.0.1"),
            "no certificate of its own": replace(right, certificate=None, key=None),
            "no TLS": replace(right, tls=False, ca=None, certificate=None, key=None),
            "a file that is not there": replace(right, ca=tmp_path / "none.pem"),
        }
        for what, sink in wrong.items():
            with pytest.raises(OSError):
                try_once(sink, 5)
                pytest.fail(what)
        gc.collect()  # while the warnings about their sockets are not heard

        async def context() -> Any:
            return client(right)._client._ssl_context

        with (
            Spy(broker.port, tls=asyncio.run(context()), login=("hub", "open sesame")) as spy,
            watched(tmp_path, right),
        ):
            spy.wait(ONLINE, "online")
            spy.wait(STATE, "OFF")


def test_watch_tells_what_the_demo_model_sees(broker: Broker, tmp_path: Path) -> None:
    """The command itself, two clips played in their time, and one rule for both."""
    root = Path(__file__).parents[2]
    clips = root / "models" / "demo" / "clips"
    home_file = tmp_path / "home.toml"
    home_file.write_text(
        'model = "demo"\n[engine]\nthreads = 2\ncontext = 2048\n'
        f'[sink.mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        f'[camera.hall]\nsource = "{clips / "reading.mp4"}"\nloop = true\n'
        f'[camera.gym]\nsource = "{clips / "thumbs-up.mp4"}"\nloop = true\n'
        '[rule.reading]\ntext = "Someone is reading"\n'
    )
    command = [sys.executable, "-m", "miloco_edge", "watch", "--config", str(home_file), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with Spy(broker.port) as spy:
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
        ) as process:
            try:
                spy.wait("miloco_edge/hall/reading/state", "ON")
                spy.wait("miloco_edge/gym/reading/state", "OFF")
                until(lambda: odds(spy, "hall/reading") > 0.9, "p_yes of who reads")
                until(lambda: odds(spy, "gym/reading") < 0.1, "p_yes of who does not")
                device = spy.documents("hall/config")[-1]
                check_device(DEVICE, device)
                sensor = device["components"]["rule_reading"]
                assert sensor["platform"] == "binary_sensor"
                until(lambda: spy.documents("/event"), "the event")
                assert {e["camera"] for e in spy.documents("/event")} == {"hall"}
            finally:
                process.terminate()
        spy.wait(ONLINE, "offline")
