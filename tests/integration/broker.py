"""A real mosquitto at a port of its own, and a client that hears everything at it."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

SECONDS = 60.0
"""How long anything may take to come about."""


def until(true: Callable[[], Any], what: str, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"it did not come about: {what}"
        time.sleep(0.02)


class Broker:
    """mosquitto. What is retained is gone when it is started again, unless it is `persistent`."""

    def __init__(self, folder: Path, *settings: str, persistent: bool = False) -> None:
        found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert found is not None, "expected mosquitto, found none: apt install mosquitto"
        self._command = [found, "-c", str(folder / "mosquitto.conf")]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        lines = [f"listener {self.port} 127.0.0.1", "user root"]
        lines += [f"persistence {str(persistent).lower()}", f"persistence_location {folder}/"]
        lines += settings or ["allow_anonymous true"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._listens, "mosquitto listens")

    def stop(self) -> None:
        """End it; it saves what it is to keep."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(SECONDS)

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "mosquitto ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Spy:
    """Hears all topics, and comes back when the broker does.

    What was published at a persistent broker before it is back, it hears then.
    """

    def __init__(
        self,
        port: int,
        name: str = "spy",
        *,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        """Topic, payload, and whether it was retained there before we came."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._listening = threading.Event()
        if tls is not None:
            self._client.tls_set_context(tls)
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.on_message = lambda client, _, message: self.heard.append(
            (message.topic, message.payload, message.retain)
        )
        self._client.connect_async("localhost" if tls else "127.0.0.1", port)
        self._client.loop_start()

    def __enter__(self) -> Spy:
        assert self._listening.wait(SECONDS), "the spy is not let in"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(SECONDS)

    def last(self, topic: str) -> str | None:
        """What came last at a topic."""
        found = [payload for name, payload, _ in list(self.heard) if name == topic]
        return found[-1].decode() if found else None

    def documents(self, ending: str) -> list[dict[str, Any]]:
        """What came at the topics that end so, in order."""
        return [
            json.loads(payload)
            for name, payload, _ in list(self.heard)
            if name.endswith(ending) and payload
        ]

    def wait(self, topic: str, payload: str) -> None:
        until(lambda: self.last(topic) == payload, f"{payload!r} at {topic}")
