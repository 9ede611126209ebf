"""What is published at a home's topics, and how a question that comes from there is read."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from miloco_edge.errors import BusyError, NotFoundError
from miloco_edge.hub.event import Event
from miloco_edge.hub.settings import Home, MqttSink
from miloco_edge.hub.status import Status, ViewStatus
from miloco_edge.serve.mqtt_entities import camera_topic, rule_topic

NONE = "None"
"""Home Assistant's word for a state that is not known."""
_LONGEST_QUESTION = 2000
_LONGEST_ID = 128


@dataclass(frozen=True)
class Question:
    """What was published at an `ask` topic."""

    text: str
    id: Any = None
    """What the asker calls it; comes back with the answer."""


def states(
    home: Home, sink: MqttSink, status: Status, told: Set[tuple[str, str]]
) -> dict[str, str]:
    """Topics and values to be retained: how every camera and rule of kind `state` is.

    `told` are cameras and rules whose state an earlier run told: it holds until they are seen.
    """
    values: dict[str, str] = {}
    for name in home.cameras:
        feed = status.feeds.get(name)
        live = feed is not None and feed.state == "live"
        values[camera_topic(sink, name, "status")] = "online" if live else "offline"
    for view in status.views:
        for rule in view.rules:
            if rule.id not in home.rules or home.rules[rule.id].kind != "state":
                continue
            known = rule.on or rule.decision is not None or (view.camera, rule.id) in told
            blind = rule.decision is not None and rule.decision.answer == "unknown"
            state = NONE if blind or not known else "ON" if rule.on else "OFF"
            about = {
                "text": rule.text,
                "zone": view.zone,
                "reason": rule.decision.reason if rule.decision is not None else None,
            }
            values[rule_topic(sink, view.camera, rule.id, "state")] = state
            values[rule_topic(sink, view.camera, rule.id, "attributes")] = _json(about)
    return values


def figures(sink: MqttSink, status: Status) -> dict[str, str]:
    """Topics and values to be retained that change with every look: p_yes and latency."""
    values: dict[str, str] = {}
    slowest: dict[str, ViewStatus] = {}
    for view in status.views:
        if view.latency_s is not None:
            other = slowest.get(view.camera)
            if other is None or (other.latency_s or 0) < view.latency_s:
                slowest[view.camera] = view
        for rule in view.rules:
            p_yes = None if rule.decision is None else rule.decision.p_yes
            topic = rule_topic(sink, view.camera, rule.id, "p_yes")
            values[topic] = NONE if p_yes is None else f"{p_yes:.2f}"
    for camera, view in slowest.items():
        values[camera_topic(sink, camera, "latency")] = f"{view.latency_s:.1f}"
    return values


def event_payload(event: Event, zone: tzinfo | None) -> str:
    """An event, with Home Assistant's `event_type`. No path of this machine goes out."""
    document = event.document(zone)
    return _json({"event_type": event.state, **document, "evidence": {"frame": None}})


def read_question(payload: object) -> Question:
    """A text, or `{"question": …, "id": …}`. Raises ValueError that says what was expected."""
    if not isinstance(payload, bytes) or len(payload) > 4 * _LONGEST_QUESTION:
        raise ValueError(f"expected a question of at most {_LONGEST_QUESTION} characters")
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise ValueError("expected text in UTF-8, got other bytes") from None
    asked = Question(text.strip())
    if asked.text.startswith("{"):
        try:
            document = json.loads(text)
            _json(document).encode()  # half of a character can be written, and told to nobody
        except (ValueError, RecursionError):
            raise ValueError("expected a question, or JSON with one, got neither") from None
        question, name = document.get("question"), document.get("id")
        if not isinstance(question, str) or len(_json(name)) > _LONGEST_ID:
            raise ValueError('expected {"question": a text, "id": a short one}, got other JSON')
        asked = Question(question.strip(), name)
    if not 0 < len(asked.text) <= _LONGEST_QUESTION:
        raise ValueError(f"expected a question of at most {_LONGEST_QUESTION} characters")
    return asked


def answer_payload(
    asked: Question, *, answer: str | None = None, error: str | None = None, took_s: float
) -> str:
    """What is published at the `answer` topic; not retained."""
    said = {"id": asked.id, "question": asked.text, "answer": answer, "error": error}
    return _json({**said, "latency_s": round(took_s, 3)})


def refusal(error: BaseException) -> str:
    """Why there is no answer, in fixed words: an engine's own stay in the log."""
    match error:
        case BusyError():
            return f"too many questions wait; ask again in {error.retry_after_s:.0f} s"
        case NotFoundError():
            return "the camera shows nothing"
        case ValueError():
            return str(error)
        case TimeoutError():
            return "no answer: the time ran out"
    return "no answer: the engine failed"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
