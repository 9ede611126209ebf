"""What Home Assistant is told of a home: one device for each camera, and where its topics are.

Pure functions. The payloads are those of MQTT device discovery, as
home-assistant.io/integrations/mqtt and homeassistant/components/mqtt/schemas.py describe them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, TypeGuard

from miloco_edge.hub.rules import Rule
from miloco_edge.hub.settings import Home, MqttSink

Payload = dict[str, Any]

_LONGEST_TEXT = 255
"""Home Assistant's limit for a state, and for a text that is typed in."""


def status_topic(sink: MqttSink) -> str:
    """`online`, or `offline` as the hub's last will."""
    return f"{sink.prefix}/status"


def camera_topic(sink: MqttSink, camera: str, what: str) -> str:
    """Of a camera: `status`, `latency`, `ask`, `answer`, `picture`."""
    return f"{sink.prefix}/{camera}/{what}"


def rule_topic(sink: MqttSink, camera: str, rule: str, what: str) -> str:
    """Of a rule on a camera: `state`, `attributes`, `p_yes`, `event`."""
    return f"{sink.prefix}/{camera}/{rule}/{what}"


def asked_camera(sink: MqttSink, topic: str) -> str | None:
    """The camera of an `ask` topic; None for any other topic."""
    found = re.fullmatch(rf"{re.escape(sink.prefix)}/([^/]+)/ask", topic)
    return None if found is None else found[1]


def devices(home: Home, sink: MqttSink) -> dict[str, Payload]:
    """Discovery topics and what is to be retained there; none where discovery is off."""
    if not sink.discovery:
        return {}
    return {
        f"{sink.discovery}/device/{_device(sink, camera)}/config": device(home, sink, camera)
        for camera in home.cameras
    }


def device(home: Home, sink: MqttSink, camera: str) -> Payload:
    """The device of a camera, with an entity or two for each of its rules."""
    us = {"name": "miloco-edge", "sw_version": version("miloco-edge")}
    components = _of_camera(home, sink, camera)
    for rule in home.rules.values():
        if camera in rule.cameras:
            components |= _of_rule(sink, camera, rule)
    for name, component in components.items():
        component["unique_id"] = f"{_device(sink, camera)}_{name}"
    return {
        "device": {
            "identifiers": [_device(sink, camera)],
            "name": camera.replace("_", " "),
            "manufacturer": us["name"],
            "sw_version": us["sw_version"],
        },
        "origin": us,
        "availability": [
            {"topic": status_topic(sink)},
            {"topic": camera_topic(sink, camera, "status")},
        ],
        "availability_mode": "all",
        "qos": 1,
        "components": components,
    }


def without(payload: Payload, components: Mapping[str, Payload]) -> Payload:
    """The payload that takes `components` away: each is named with nothing but its platform."""
    gone = {name: {"platform": component["platform"]} for name, component in components.items()}
    return {**payload, "components": {**payload["components"], **gone}}


def is_of(payload: object, sink: MqttSink) -> TypeGuard[Payload]:
    """Whether a discovery payload that the broker holds was made by a hub with this prefix."""
    match payload:
        case {
            "origin": {"name": "miloco-edge"},
            "availability": [{"topic": topic}, *_],
            "components": dict() as components,
        }:
            return topic == status_topic(sink) and all(
                isinstance(each, dict) and isinstance(each.get("platform"), str)
                for each in components.values()
            )
    return False


def camera_topics(sink: MqttSink, payload: Payload) -> set[str]:
    """Topics at which a device's availability is retained, the hub's own aside."""
    topics = {str(each.get("topic")) for each in payload["availability"] if isinstance(each, dict)}
    return {topic for topic in topics if topic.startswith(f"{sink.prefix}/")} - {status_topic(sink)}


def retained_topics(sink: MqttSink, components: Mapping[str, Payload]) -> set[str]:
    """Topics of entities at which a value is retained."""
    return {
        str(topic)
        for component in components.values()
        if component["platform"] in ("binary_sensor", "sensor", "image")
        for key, topic in component.items()
        if key.endswith("_topic")
        and str(topic).startswith(f"{sink.prefix}/")
        and not str(topic).endswith("/answer")
    }


def _device(sink: MqttSink, camera: str) -> str:
    return f"{sink.prefix}_{camera}".replace("/", "_")


def _of_rule(sink: MqttSink, camera: str, rule: Rule) -> dict[str, Payload]:
    name = rule.id.replace("_", " ")
    entities: dict[str, Payload] = {
        f"p_yes_{rule.id}": {
            "platform": "sensor",
            "name": f"{name} p_yes",
            "state_topic": rule_topic(sink, camera, rule.id, "p_yes"),
            "state_class": "measurement",
            "suggested_display_precision": 2,
            "entity_category": "diagnostic",
            "icon": "mdi:percent-outline",
        }
    }
    if rule.kind == "state":
        entities[f"rule_{rule.id}"] = {
            "platform": "binary_sensor",
            "name": name,
            "state_topic": rule_topic(sink, camera, rule.id, "state"),
            "json_attributes_topic": rule_topic(sink, camera, rule.id, "attributes"),
        }
    else:
        entities[f"rule_{rule.id}"] = {
            "platform": "event",
            "name": name,
            "state_topic": rule_topic(sink, camera, rule.id, "event"),
            "event_types": ["fired"],
            # That it cannot be seen is told there too, and must trigger nothing.
            "value_template": "{{ value if value_json.state == 'fired' else '{}' }}",
        }
    return entities


def _of_camera(home: Home, sink: MqttSink, camera: str) -> dict[str, Payload]:
    entities: dict[str, Payload] = {
        "latency": {
            "platform": "sensor",
            "name": "Latency",
            "state_topic": camera_topic(sink, camera, "latency"),
            "device_class": "duration",
            "unit_of_measurement": "s",
            "state_class": "measurement",
            "suggested_display_precision": 1,
            "entity_category": "diagnostic",
        }
    }
    if sink.ask:
        answer = camera_topic(sink, camera, "answer")
        entities["ask"] = {
            "platform": "text",
            "name": "Ask",
            "command_topic": camera_topic(sink, camera, "ask"),
            "max": _LONGEST_TEXT,
            "icon": "mdi:chat-question-outline",
        }
        entities["answer"] = {
            "platform": "sensor",
            "name": "Answer",
            "state_topic": answer,
            "value_template": "{{ (value_json.answer or value_json.error or '')"
            f"[:{_LONGEST_TEXT}] }}}}",
            "json_attributes_topic": answer,
            "icon": "mdi:chat-outline",
        }
    if sink.pictures and home.journal.evidence:
        entities["picture"] = {
            "platform": "image",
            "name": "Last event",
            "image_topic": camera_topic(sink, camera, "picture"),
            "content_type": "image/jpeg",
        }
    return entities
