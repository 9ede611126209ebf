"""Sinks that the hub does not know by itself: MQTT, which needs its extra."""

from __future__ import annotations

from typing import Any

from miloco_edge.errors import MilocoEdgeError
from miloco_edge.hub.hub import Hub, SinkKinds
from miloco_edge.hub.settings import Home, MqttSink
from miloco_edge.hub.sinks import Sink


def sink_kinds(home: Home) -> SinkKinds:
    """As Hub takes them. Raises MilocoEdgeError where the home needs an extra that is missing."""
    if any(isinstance(sink, MqttSink) for sink in home.sinks.values()):
        _mqtt()
    return {MqttSink: _connected}


def _connected(hub: Hub, settings: MqttSink) -> Sink:
    made: Sink = _mqtt().Mqtt(hub, settings)
    return made


def _mqtt() -> Any:
    try:
        from miloco_edge.serve import mqtt
    except ModuleNotFoundError as error:
        if error.name != "aiomqtt":
            raise
        raise MilocoEdgeError(
            "expected the extra mqtt for a sink of kind mqtt, got none of aiomqtt",
            hint="pip install 'miloco-edge[mqtt]'",
        ) from error
    return mqtt
