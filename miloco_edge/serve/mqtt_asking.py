"""Questions that come over MQTT: put to the hub, and answered at the camera's `answer` topic."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import aiomqtt

from miloco_edge.errors import BusyError, MilocoEdgeError
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.settings import MqttSink
from miloco_edge.serve.mqtt_entities import camera_topic
from miloco_edge.serve.mqtt_values import Question, answer_payload, read_question, refusal

log = logging.getLogger(__name__)

_AT_ONCE = 8


class Asking:
    """The questions that are under way. Used by the loop of the connection."""

    def __init__(self, hub: Hub, settings: MqttSink) -> None:
        self._hub, self._settings = hub, settings
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, connected: aiomqtt.Client, camera: str, payload: object) -> None:
        """Put a question; its answer, or why there is none, is published when it is there."""
        task = asyncio.create_task(self._answer(connected, camera, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Nobody waits any more."""
        for task in self._tasks:
            task.cancel()

    async def _answer(self, connected: aiomqtt.Client, camera: str, payload: object) -> None:
        began, asked = asyncio.get_running_loop().time(), Question("")
        answer = error = None
        try:
            asked = read_question(payload)
            answer = await self._put(camera, asked.text)
        except (MilocoEdgeError, ValueError, TimeoutError) as refused:
            log.info("a question about camera %s: %s", camera, refused)
            error = refusal(refused)
        took_s = asyncio.get_running_loop().time() - began
        said = answer_payload(asked, answer=answer, error=error, took_s=took_s)
        with suppress(aiomqtt.MqttError):  # said again by nobody: the connection is made anew
            await connected.publish(camera_topic(self._settings, camera, "answer"), said, qos=1)

    async def _put(self, camera: str, question: str) -> str:
        if len(self._tasks) > _AT_ONCE:
            raise BusyError(_AT_ONCE, 10)
        pending = self._hub.ask(camera, question, seconds=self._settings.ask_s)
        try:
            answer = await asyncio.wrap_future(pending.future)
        except asyncio.CancelledError:
            pending.cancel()
            raise
        if not answer.text and answer.finish_reason != "stop":
            raise TimeoutError(f"nothing was said in {self._settings.ask_s:.0f} s")
        return answer.text
