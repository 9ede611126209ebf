"""A hub with a sink of kind mqtt in a process of its own, until it is killed.

python -m tests.integration.mqtt_hub FOLDER PORT
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from miloco_edge.hub.hub import Hub
from miloco_edge.hub.settings import Home, MqttSink
from miloco_edge.serve.mqtt import Mqtt
from tests.hub.home import Camera, FakeEngine, home


def calm(made: Home, sink: MqttSink) -> Home:
    """A home that needs little of a machine, and has patience."""
    cameras = {
        name: replace(camera, interval_s=0.5, seconds=1, fps=2, timeout_s=60)
        for name, camera in made.cameras.items()
    }
    return replace(made, cameras=cameras, sinks={sink.name: sink})


if __name__ == "__main__":
    made = calm(home(Path(sys.argv[1])), MqttSink("mqtt", port=int(sys.argv[2])))
    with (
        Camera(every_s=0.2) as camera,
        Hub(made, FakeEngine(), sources={"hall": camera}, sinks={MqttSink: Mqtt}),
    ):
        time.sleep(600)
