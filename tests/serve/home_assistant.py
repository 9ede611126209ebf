"""What Home Assistant takes in a discovery payload: its documented options, and nothing else.

From home-assistant.io, `source/_integrations/{binary_sensor,event,image,text}.mqtt.markdown` at
04987cbb, 0271d54c, 045f4e65 and 03ecc9ca, and from home-assistant/core,
`homeassistant/components/mqtt/{schemas,sensor,event,image}.py` (schemas at 0f5c1b54).
"""

from __future__ import annotations

import re
from typing import Any

ROOT = {
    "device", "origin", "components", "availability", "availability_mode", "state_topic",
    "command_topic", "qos", "encoding",
}  # fmt: skip
DEVICE = {
    "identifiers", "connections", "manufacturer", "model", "model_id", "name", "hw_version",
    "serial_number", "sw_version", "via_device", "suggested_area", "configuration_url",
}  # fmt: skip
ORIGIN = {"name", "sw_version", "support_url"}
ENTITY = {
    "platform", "unique_id", "name", "icon", "enabled_by_default", "entity_category",
    "entity_picture", "default_entity_id", "json_attributes_topic", "json_attributes_template",
    "availability", "availability_mode", "availability_topic", "availability_template",
    "payload_available", "payload_not_available", "qos", "encoding",
}  # fmt: skip
READING = {"state_topic", "value_template", "device_class"}
OPTIONS = {
    "binary_sensor": READING
    | {"expire_after", "force_update", "off_delay", "payload_on", "payload_off"},
    "sensor": READING
    | {
        "expire_after", "force_update", "last_reset_value_template", "options",
        "suggested_display_precision", "state_class", "unit_of_measurement",
    },
    "event": READING | {"event_types"},
    "text": {
        "command_topic", "command_template", "max", "min", "mode", "pattern", "retain",
        "state_topic", "value_template",
    },
    "image": {"content_type", "image_encoding", "image_topic", "url_template", "url_topic"},
}  # fmt: skip
REQUIRED = {
    "binary_sensor": {"state_topic"},
    "sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
    "text": {"command_topic"},
    "image": {"image_topic"},
}
DISCOVERY_TOPIC = re.compile(r"homeassistant/device/[a-zA-Z0-9_-]+/config")


def check_device(topic: str, payload: dict[str, Any]) -> None:
    """Fail where Home Assistant would refuse the device or leave something out."""
    assert DISCOVERY_TOPIC.fullmatch(topic)
    assert set(payload) <= ROOT and {"device", "origin", "components"} <= set(payload)
    assert set(payload["device"]) <= DEVICE and payload["device"]["identifiers"]
    assert set(payload["origin"]) <= ORIGIN and payload["origin"]["name"]
    assert payload.get("qos", 0) in (0, 1, 2)
    assert payload["availability_mode"] in ("all", "any", "latest")
    for each in payload["availability"]:
        assert set(each) <= {"topic", "payload_available", "payload_not_available"}
        check_topic(each["topic"])
    ids = [component["unique_id"] for component in payload["components"].values()]
    assert len(set(ids)) == len(ids)
    for component in payload["components"].values():
        check_component(component)


def check_component(component: dict[str, Any]) -> None:
    platform = component["platform"]
    given = set(component)
    assert given <= ENTITY | OPTIONS[platform], given - ENTITY - OPTIONS[platform]
    assert REQUIRED[platform] | {"unique_id"} <= given
    assert component.get("entity_category", "diagnostic") in ("diagnostic", "config")
    assert component.get("icon", "mdi:x").startswith("mdi:")
    for key, value in component.items():
        if key.endswith("_topic"):
            check_topic(value)
    if platform == "text":
        assert 0 <= component.get("min", 0) < component["max"] <= 255
    if platform == "sensor" and component.get("state_class") is not None:
        assert component["state_class"] in ("measurement", "total", "total_increasing")
    if component.get("device_class") == "duration":
        assert component["unit_of_measurement"] in ("d", "h", "min", "s", "ms")


def check_topic(topic: str) -> None:
    """One that may be published at: MQTT 3.1.1, 4.7.3."""
    assert topic and len(topic.encode()) <= 65535
    assert not set(topic) & set("+#\0") and not topic.startswith(("$", "/"))
