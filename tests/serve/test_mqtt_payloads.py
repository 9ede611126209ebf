"""What is published, without a broker: against Home Assistant's documented options."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miloco_edge.errors import BusyError, EngineDownError, NotFoundError
from miloco_edge.hub.event import Evidence
from miloco_edge.hub.overload import LEVELS
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.scheduler import Counts
from miloco_edge.hub.secrets import Secret
from miloco_edge.hub.settings import Home, JournalSettings, MqttSink
from miloco_edge.hub.status import RuleStatus, Status, ViewStatus
from miloco_edge.serve.mqtt_entities import (
    asked_camera,
    camera_topics,
    devices,
    is_of,
    retained_topics,
    without,
)
from miloco_edge.serve.mqtt_values import (
    answer_payload,
    event_payload,
    figures,
    read_question,
    refusal,
    states,
)
from miloco_edge.types import Decision
from miloco_edge.video.feed import FeedStatus
from tests.hub.home import home
from tests.hub.test_journal import event
from tests.serve.home_assistant import check_device

STANDING = Rule("standing", "The baby is standing", cameras=("nursery", "hall-2"))
PARCEL = Rule("parcel", "A parcel is put down", cameras=("hall-2",), kind="event")
SINK = MqttSink("mqtt", pictures=True)


def a_home(folder: Path, **changes: Any) -> Home:
    journal = JournalSettings(folder / "journal.sqlite", evidence=True)
    return replace(
        home(folder, STANDING, PARCEL, cameras=("nursery", "hall-2"), journal=journal), **changes
    )


def test_each_camera_is_a_device_that_home_assistant_takes(tmp_path: Path) -> None:
    found = devices(a_home(tmp_path), SINK)
    for topic, payload in found.items():
        check_device(topic, payload)
        assert json.loads(json.dumps(payload)) == payload
    assert set(found) == {
        "homeassistant/device/miloco_edge_nursery/config",
        "homeassistant/device/miloco_edge_hall-2/config",
    }
    hall = found["homeassistant/device/miloco_edge_hall-2/config"]["components"]
    assert {name: each["platform"] for name, each in hall.items()} == {
        "latency": "sensor", "ask": "text", "answer": "sensor", "picture": "image",
        "rule_standing": "binary_sensor", "p_yes_standing": "sensor",
        "rule_parcel": "event", "p_yes_parcel": "sensor",
    }  # fmt: skip
    assert hall["rule_parcel"]["state_topic"] == "miloco_edge/hall-2/parcel/event"
    nursery = found["homeassistant/device/miloco_edge_nursery/config"]["components"]
    assert "rule_parcel" not in nursery


def test_what_is_switched_off_is_not_announced(tmp_path: Path) -> None:
    quiet = a_home(tmp_path)
    assert devices(quiet, replace(SINK, discovery="")) == {}
    (first, _) = devices(quiet, replace(SINK, ask=False, pictures=False)).values()
    assert not {"ask", "answer", "picture"} & set(first["components"])
    (first, _) = devices(replace(quiet, journal=JournalSettings()), SINK).values()
    assert "picture" not in first["components"], "the journal keeps none"


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)


@given(camera=names, rule=names, prefix=st.sampled_from(["miloco_edge", "home/cellar", "a-b"]))
def test_any_home_makes_topics_that_may_be_used(camera: str, rule: str, prefix: str) -> None:
    sink = replace(SINK, prefix=prefix)
    any_home = home(Path("/nowhere"), Rule(rule, "It rains", cameras=(camera,)), cameras=(camera,))
    ((topic, payload),) = devices(any_home, sink).items()
    check_device(topic, payload)
    assert is_of(json.loads(json.dumps(payload)), sink)
    assert asked_camera(sink, payload["components"]["ask"]["command_topic"]) == camera


def test_a_device_of_a_former_run_is_known_and_taken_away(tmp_path: Path) -> None:
    payload = devices(a_home(tmp_path), SINK)["homeassistant/device/miloco_edge_hall-2/config"]
    assert is_of(payload, SINK) and not is_of(payload, replace(SINK, prefix="other"))
    for change in ({"origin": {"name": "zigbee2mqtt"}}, {"components": {"a": 3}}):
        assert not is_of({**payload, **change}, SINK)
    for foreign in (None, [], "x", {}, {**payload, "availability": []}):
        assert not is_of(foreign, SINK)
    parcel = {"rule_parcel": payload["components"]["rule_parcel"]}
    gone = without(payload, parcel)["components"]
    assert gone["rule_parcel"] == {"platform": "event"} and gone["latency"]["name"] == "Latency"
    assert retained_topics(SINK, payload["components"]) == {
        f"miloco_edge/hall-2/{topic}"
        for topic in ("latency", "picture", "standing/state", "standing/attributes",
                      "standing/p_yes", "parcel/p_yes")
    }  # fmt: skip
    assert camera_topics(SINK, payload) == {"miloco_edge/hall-2/status"}


YES = Decision(STANDING.text, "yes", 0.934, 0.01, "logits")
UNKNOWN = Decision(STANDING.text, "unknown", None, None, "none", "black")


def status(on: bool, decision: Decision | None, feed: FeedStatus | None = None) -> Status:
    rule = RuleStatus("standing", STANDING.text, on, decision)
    parcel = RuleStatus("parcel", PARCEL.text, False, YES)
    feed = feed or FeedStatus("live")
    views = (
        ViewStatus("nursery", "cot", feed, None, {}, 1.24, (rule,)),
        ViewStatus("hall-2", None, feed, None, {}, 0.4, (parcel,)),
        ViewStatus("hall-2", "door", feed, None, {}, 2.5, ()),
    )
    return Status(
        "demo", "ready", views, 0, 0, Counts(), 0.0, LEVELS[0], 0, None, {}, {"nursery": feed}
    )


@pytest.mark.parametrize(
    ("on", "decision", "told", "state", "reason"),
    [
        (True, YES, False, "ON", None),
        (False, YES, False, "OFF", None),
        (True, UNKNOWN, False, "None", "black"),
        (True, None, True, "ON", None),
        (False, None, True, "OFF", None),
        (False, None, False, "None", None),
    ],
)
def test_the_state_of_a_rule(
    tmp_path: Path, on: bool, decision: Decision | None, told: bool, state: str, reason: str | None
) -> None:
    known = {("nursery", "standing")} if told else set()
    values = states(a_home(tmp_path), SINK, status(on, decision), known)
    assert values["miloco_edge/nursery/standing/state"] == state
    about = json.loads(values["miloco_edge/nursery/standing/attributes"])
    assert about == {"text": STANDING.text, "zone": "cot", "reason": reason}
    assert not any("parcel" in topic for topic in values), "an event has no state"


def test_a_camera_is_available_while_it_is_live(tmp_path: Path) -> None:
    lost = states(a_home(tmp_path), SINK, status(True, YES, FeedStatus("lost")), set())
    assert lost["miloco_edge/nursery/status"] == "offline"
    live = states(a_home(tmp_path), SINK, status(True, YES), set())
    assert live["miloco_edge/nursery/status"] == "online"
    assert live["miloco_edge/hall-2/status"] == "offline", "it has no feed yet"


def test_figures() -> None:
    assert figures(SINK, status(True, YES)) == {
        "miloco_edge/nursery/standing/p_yes": "0.93",
        "miloco_edge/hall-2/parcel/p_yes": "0.93",
        "miloco_edge/nursery/latency": "1.2",
        "miloco_edge/hall-2/latency": "2.5",
    }
    assert figures(SINK, status(True, UNKNOWN))["miloco_edge/nursery/standing/p_yes"] == "None"


def test_an_event_carries_its_type_and_no_path() -> None:
    told = event(1, evidence=Evidence(1.0, 2.0, 6, "/var/lib/a.jpg"), state="fired")
    payload = json.loads(event_payload(told, None))
    assert payload.pop("event_type") == "fired"
    assert payload == {**told.document(), "evidence": {"frame": None}}


def test_questions() -> None:
    assert read_question(b" Who is there? \n").text == "Who is there?"
    asked = read_question('{"question": "谁？", "id": 7}'.encode())
    assert (asked.text, asked.id) == ("谁？", 7)
    answer = json.loads(answer_payload(asked, answer="nobody", took_s=1.23456))
    assert answer == {
        "id": 7, "question": "谁？", "answer": "nobody", "error": None, "latency_s": 1.235,
    }  # fmt: skip


@pytest.mark.parametrize(
    "payload",
    [b"", b"  ", b"x" * 2001, b"\xff\xfe", b'{"question": 3}', b"{nothing", b'{"question": ""}',
     b'{"question": "x", "id": "' + b"y" * 200 + b'"}', b"{" * 5000, None, 3.5,
     b'{"question": "\\ud800?"}', b'{"question": "x", "id": "\\ud800"}'],
)  # fmt: skip
def test_questions_that_are_none(payload: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_question(payload)


@given(st.binary(max_size=300))
def test_whatever_is_published_is_a_question_or_refused(payload: bytes) -> None:
    try:
        assert read_question(payload).text
    except ValueError as error:
        assert str(error).startswith("expected")


def test_every_setting_is_in_the_manual() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
    table = manual.partition("| setting |")[2].partition("\n\n")[0]
    logins = {"name", "user", "password"}
    assert {field.name for field in fields(MqttSink)} - logins <= set(re.findall(r"`(\w+)`", table))
    (block,) = re.findall(r"```toml\n(.*?)```", manual, re.S)
    assert set(tomllib.loads(block)["sink"]["mqtt"]) <= {field.name for field in fields(MqttSink)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prefix": ""}, "MqttSink.prefix: expected a topic"),
        ({"prefix": "a/#"}, "MqttSink.prefix: expected a topic"),
        ({"prefix": "/a"}, "MqttSink.prefix: expected a topic"),
        ({"discovery": "+"}, "MqttSink.discovery: expected a topic"),
        ({"ca": Path("ca.pem")}, "MqttSink.tls: expected true"),
        ({"tls": True, "key": Path("key.pem")}, "MqttSink.certificate: expected it and key"),
        ({"ask_s": 0.0}, "MqttSink.ask_s: expected more than 0"),
        ({"password": Secret("hush")}, "MqttSink.user: expected that secret with its password"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        MqttSink("mqtt", **settings)


def test_refusals_are_in_fixed_words() -> None:
    assert refusal(BusyError(64, 12)) == "too many questions wait; ask again in 12 s"
    assert refusal(NotFoundError("rtsp://user:x@cam")) == "the camera shows nothing"
    assert "x@cam" not in refusal(EngineDownError("rtsp://user:x@cam"))
