"""Sinks that the hub does not know by itself: MQTT, which needs its extra."""

from __future__ import annotations

from importlib.util import find_spec

from miloco_edge.cli.extras import missing
from miloco_edge.hub.hub import Hub, SinkKinds
from miloco_edge.hub.settings import Home, MqttSink
from miloco_edge.hub.sinks import Sink


def sink_kinds(home: Home) -> SinkKinds:
    """As Hub takes them. Raises MilocoEdgeError where the home needs an extra that is missing."""
    if find_spec("aiomqtt") is not None:
        return {MqttSink: _mqtt}
    if any(isinstance(sink, MqttSink) for sink in home.sinks.values()):
        raise missing("mqtt", "aiomqtt")
    return {}


def _mqtt(hub: Hub, settings: MqttSink) -> Sink:
    from miloco_edge.serve.mqtt import Mqtt  # not on top: most homes need none of it

    return Mqtt(hub, settings)
