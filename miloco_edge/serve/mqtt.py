"""[sink.mqtt]: a hub's rules and cameras at an MQTT broker, as Home Assistant wants them.

    with Hub.from_config("home.toml", sinks={MqttSink: Mqtt}) as hub: ...

One thread with a loop of its own holds the connection and makes it anew when it is lost. Events
come from the hub through an `Outlet`, which keeps each until the broker has acknowledged it (QoS
1); states are read from the hub, so that what is retained is how things are now.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiomqtt

from miloco_edge.errors import ClosedError
from miloco_edge.hub.event import Event
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.settings import MqttSink
from miloco_edge.serve.mqtt_asking import Asking
from miloco_edge.serve.mqtt_client import client
from miloco_edge.serve.mqtt_entities import (
    Payload,
    asked_camera,
    camera_topic,
    camera_topics,
    devices,
    is_of,
    retained_topics,
    rule_topic,
    status_topic,
    without,
)
from miloco_edge.serve.mqtt_values import event_payload, figures, states
from miloco_edge.video.feed import Backoff

log = logging.getLogger(__name__)

_CONNECTED_S = 5.0
"""How long an event waits for the connection before it is tried again later."""
_REFRESH_S = 1.0
_FIGURES_S = 5.0
_BIRTH_S = 2.0
"""Home Assistant asks for some chance in when devices answer its birth message."""
_BACKOFF = Backoff(first_s=1.0, most_s=30.0)


class Mqtt:
    """A sink that is a broker. `hub.add_sink` and home.toml start it."""

    def __init__(self, hub: Hub, settings: MqttSink, *, backoff: Backoff = _BACKOFF) -> None:
        self.name, self._hub, self._settings, self._backoff = settings.name, hub, settings, backoff
        self._told = frozenset(hub.journal.last_states())
        self._client: aiomqtt.Client | None = None
        self._sent: dict[str, str] = {}
        """What is retained at the broker, of what we sent since we connected."""
        self._announced: dict[str, Payload] = {}
        self._home = hub.home
        """The home that was announced."""
        self._asking = Asking(hub, settings)
        self._loop = asyncio.new_event_loop()
        self._ready, self._changed, self._closing = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
        )
        self._thread = threading.Thread(
            target=self._run, name=f"miloco-edge mqtt {self.name}", daemon=True
        )
        self._thread.start()

    def send(self, event: Event) -> None:
        """Publish; OSError until the broker has acknowledged it."""
        telling = self._tell(event)
        try:
            asyncio.run_coroutine_threadsafe(telling, self._loop).result()
        except (aiomqtt.MqttError, CancelledError) as error:
            raise OSError(str(error) or "the connection is closed") from error
        except RuntimeError as error:
            telling.close()
            raise OSError("the connection is closed") from error

    def close(self) -> None:
        """Say that the hub is offline, and leave; a second call does nothing."""
        with suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(1)

    # What follows runs in the loop of the connection's thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self._loop.close()

    async def _live(self) -> None:
        where, failures, lost = f"{self._settings.host}:{self._settings.port}", 0, False
        while not self._closing.is_set():
            began = self._loop.time()
            try:
                async with client(self._settings) as connected:
                    log.log(logging.WARNING if lost else logging.INFO, "connected to %s", where)
                    lost = False
                    await self._converse(connected)
            except (aiomqtt.MqttError, OSError) as error:
                if not lost:
                    log.warning("expected a broker at %s, got: %s; tried again", where, error)
                lost = True
                self._note(str(error))
            except Exception:  # a fault of ours must not silence the hub for good
                log.exception("a fault while connected to %s", where)
            finally:
                self._client = None
                self._ready.clear()
            healthy = self._loop.time() - began > self._backoff.healthy_s
            failures = 1 if healthy else failures + 1
            with suppress(TimeoutError):
                delay = self._backoff.delay_s(failures, random.random())
                await asyncio.wait_for(self._closing.wait(), delay)

    async def _converse(self, connected: aiomqtt.Client) -> None:
        """All there is to do until the connection is lost or the hub is closed."""
        discovery = self._settings.discovery
        topics = [f"{discovery}/status", f"{discovery}/device/+/config"] if discovery else []
        if self._settings.ask:
            topics.append(camera_topic(self._settings, "+", "ask"))
        for topic in topics:
            (code,) = await connected.subscribe(topic, qos=1)
            if (code if isinstance(code, int) else code.value) >= 128:
                log.warning("the broker does not let us read %s", topic)
        self._client = connected
        await self._say_all()
        self._ready.set()
        self._note(None)
        work: list[Coroutine[Any, Any, Any]] = [
            self._listen(connected), self._keep_fresh(), self._closing.wait()
        ]  # fmt: skip
        tasks = [asyncio.create_task(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await connected.publish(status_topic(self._settings), "offline", qos=1, retain=True)
        finally:
            self._asking.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _note(self, error: str | None) -> None:
        """Have the hub's status say how the connection is; what waits is sent once it is there."""
        for outlet in self._hub.outlets:
            if outlet.sink is self:
                outlet.error = error
                if error is None:
                    outlet.hurry()

    async def _tell(self, event: Event) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), _CONNECTED_S)
        if self._client is None:
            raise ConnectionError("there is no connection to the broker")
        topic = rule_topic(self._settings, event.camera, event.rule.id, "event")
        await self._client.publish(topic, event_payload(event, self._hub.home.time_zone), qos=1)
        self._changed.set()
        shown = None if event.evidence is None else event.evidence.frame
        if self._settings.pictures and shown is not None:
            await self._show(self._client, event.camera, Path(shown))

    async def _show(self, connected: aiomqtt.Client, camera: str, picture: Path) -> None:
        """Publish an event's picture. One that cannot be has no event told a second time."""
        topic = camera_topic(self._settings, camera, "picture")
        try:
            pixels = await asyncio.to_thread(picture.read_bytes)
            await connected.publish(topic, pixels, qos=1, retain=True)
        except FileNotFoundError:
            log.debug("%s was too old to be kept", picture)
        except (aiomqtt.MqttError, OSError) as error:
            log.warning("expected to publish a picture of camera %s, got: %s", camera, error)

    async def _listen(self, connected: aiomqtt.Client) -> None:
        async for message in connected.messages:
            topic, payload = message.topic.value, message.payload
            camera = asked_camera(self._settings, topic)
            if camera is not None:
                if not message.retain:  # what lies there from long ago asks nothing
                    self._asking.ask(connected, camera, payload)
            elif topic == f"{self._settings.discovery}/status":
                if payload == b"online":
                    await asyncio.sleep(random.uniform(0, _BIRTH_S))
                    await self._say_all()
            elif message.retain:
                await self._found(topic, payload)

    async def _found(self, topic: str, payload: object) -> None:
        """The broker holds a device: if an earlier run of ours left it, it may have to go."""
        try:
            document = json.loads(payload) if isinstance(payload, (bytes, str)) else None
        except (ValueError, RecursionError):
            return
        if is_of(document, self._settings):
            await self._supersede(topic, document, devices(self._hub.home, self._settings))

    async def _say_all(self) -> None:
        """Say everything, as to one who has heard nothing of it."""
        self._sent.clear()
        self._announced.clear()
        await self._announce()
        await self._refresh(whole=True)
        await self._retain(status_topic(self._settings), "online")

    async def _announce(self) -> None:
        """Bring what Home Assistant is told of to what the home is now."""
        self._home = self._hub.home
        wanted = devices(self._home, self._settings)
        for topic, payload in list(self._announced.items()):
            await self._supersede(topic, payload, wanted)
        for topic, payload in wanted.items():
            if self._announced.get(topic) != payload:
                await self._retain(topic, json.dumps(payload))
        self._announced = wanted

    async def _supersede(self, topic: str, older: Payload, wanted: Mapping[str, Payload]) -> None:
        """Take away what `older` announced at a topic and is no longer wanted."""
        kept = wanted.get(topic, {"components": {}})
        gone = {
            name: component
            for name, component in older["components"].items()
            if name not in kept["components"]
            or kept["components"][name]["platform"] != component["platform"]
        }
        left = retained_topics(self._settings, gone)
        if topic not in wanted:
            await self._retain(topic, "")
            left |= camera_topics(self._settings, older)
        elif gone:
            await self._retain(topic, json.dumps(without(kept, gone)))
            await self._retain(topic, json.dumps(kept))
        for unused in left - retained_topics(self._settings, kept["components"]):
            await self._retain(unused, "")
            self._sent.pop(unused, None)

    async def _keep_fresh(self) -> None:
        """Bring what is retained to how things are, when something changed and now and then."""
        figures_s = self._loop.time()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _REFRESH_S)
            self._changed.clear()
            if self._hub.home is not self._home:
                await self._announce()
            whole = self._loop.time() - figures_s >= _FIGURES_S
            if whole:
                figures_s = self._loop.time()
            await self._refresh(whole=whole)

    async def _refresh(self, *, whole: bool) -> None:
        try:
            status = await asyncio.to_thread(self._hub.status)
        except (ClosedError, TimeoutError):  # it begins, ends, or is at work: soon again
            return
        values = states(self._hub.home, self._settings, status, self._told)
        if whole:
            values |= figures(self._settings, status)
        for topic, value in values.items():
            if self._sent.get(topic) != value:
                await self._retain(topic, value)
                self._sent[topic] = value

    async def _retain(self, topic: str, payload: str) -> None:
        assert self._client is not None
        await self._client.publish(topic, payload, qos=1, retain=True)
