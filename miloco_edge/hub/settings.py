"""What a home is made of: cameras, rules, sinks, the gate, the journal and the engine.

`config.read` makes these from home.toml; a program may make them itself.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from miloco_edge.engine.economy import Economy, Mode
from miloco_edge.hub.gate import GateSettings
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.secrets import Secret
from miloco_edge.video.address import Address
from miloco_edge.video.mask import Polygon

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


def _positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{type(settings).__name__}.{name}: expected more than 0, got {value}")


@dataclass(frozen=True)
class CameraSettings:
    """One camera, and how it is looked at."""

    id: str
    source: Address
    """With its login, from the secrets `camera.ID.user` and `camera.ID.password`."""
    interval_s: float = 2.0
    """From one window to the next."""
    seconds: float = 3.0
    """How long a window is."""
    fps: float = 2.0
    """Frames a second in a window."""
    timeout_s: float = 10.0
    """Longest wait for the camera, and for its next frame."""
    loop: bool = False
    """Play a file again and again."""
    gate: bool = True
    """Whether the gate may leave windows out."""
    frozen_after_s: float = 60.0
    """An RTSP, HTTP or USB camera whose picture has not changed in a single pixel for so long is
    frozen: a sensor is never still. Not much less, for encoders repeat pictures."""
    masks: tuple[Polygon, ...] = ()
    """Parts that nobody sees."""
    zones: Mapping[str, Polygon] = field(default_factory=dict)
    """Parts that rules may be about."""

    def __post_init__(self) -> None:
        _positive(self, "interval_s", "seconds", "fps", "timeout_s", "frozen_after_s")


@dataclass(frozen=True)
class EngineSettings:
    """What runs the model, and within which bounds."""

    context: int | None = None
    threads: int | None = None
    gpu_layers: int | Literal["auto"] = "auto"
    visual_tokens: int | None = None
    """Of a window at most."""
    mode: Mode = "live"
    """What windows may leave out: "live", what changes no answer in our tests; "exact", nothing."""
    economy: Economy | None = None
    """What windows may leave out, measure by measure, instead of `mode`."""
    kv_type: Literal["f16", "q8_0"] | None = None
    """Of the KV cache; q8_0 takes half of the memory."""
    unload_after_s: float | None = None
    """Give the model's memory back after so long without work; None: never."""
    resident_bytes: int | None = None
    """Resident memory above which the engine's process is replaced between windows."""

    def __post_init__(self) -> None:
        _positive(self, "context", "threads", "visual_tokens", "unload_after_s", "resident_bytes")
        if self.gpu_layers != "auto" and self.gpu_layers < 0:
            raise ValueError(
                f"EngineSettings.gpu_layers: expected 0 or more, got {self.gpu_layers}"
            )


@dataclass(frozen=True)
class JournalSettings:
    """Where decisions and events are kept, and how long."""

    path: Path = Path("journal.sqlite")
    """Beside home.toml, unless it is absolute."""
    days: float = 30.0
    max_bytes: int = 256 << 20
    evidence: bool = False
    """Whether a picture of each event's window is kept."""

    def __post_init__(self) -> None:
        _positive(self, "days", "max_bytes")


@dataclass(frozen=True)
class MqttSink:
    """An MQTT broker; its login is in the secrets `sink.NAME.user` and `sink.NAME.password`."""

    name: str
    host: str = "127.0.0.1"
    port: int = 1883
    """Brokers take TLS at another, 8883."""
    tls: bool = False
    ca: Path | None = None
    """Whose certificates are trusted, PEM; None: those that the system trusts."""
    certificate: Path | None = None
    """The client's own, PEM, where the broker asks for one; with `key`."""
    key: Path | None = None
    prefix: str = "miloco_edge"
    """Of all topics, and of Home Assistant's ids: one for each hub at a broker."""
    discovery: str | None = "homeassistant"
    """Prefix of Home Assistant's discovery; "" for none."""
    ask: bool = True
    """Whether who may publish at the broker may ask about the cameras."""
    ask_s: float = 60.0
    """Longest that an answer may take."""
    pictures: bool = False
    """Whether pictures of events are published, where the journal keeps such."""
    user: Secret | None = None
    password: Secret | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"MqttSink.port: expected from 1 to 65535, got {self.port}")
        _positive(self, "ask_s")
        for name in ("prefix", "discovery"):
            value = getattr(self, name)
            if not _TOPIC.fullmatch(value or "") and (value or name == "prefix"):
                raise ValueError(
                    f"MqttSink.{name}: expected a topic of letters, digits, _ and -, got {value!r}"
                )
        if not self.tls and (self.ca or self.certificate or self.key):
            raise ValueError("MqttSink.tls: expected true with ca, certificate and key, got false")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("MqttSink.certificate: expected it and key together, got one of them")
        if self.password is not None and self.user is None:
            raise ValueError("MqttSink.user: expected that secret with its password, got none")


@dataclass(frozen=True)
class LinesSink:
    """A file to which each event is appended as a line of JSON."""

    name: str
    path: Path


@dataclass(frozen=True)
class WebhookSink:
    """An URL to which each event is posted; the secret `sink.NAME.token` goes as bearer token."""

    name: str
    url: Address
    timeout_s: float = 10.0
    token: Secret | None = None

    def __post_init__(self) -> None:
        _positive(self, "timeout_s")


Sink = MqttSink | LinesSink | WebhookSink


@dataclass(frozen=True)
class Home:
    """All of it, and the file that says so."""

    path: Path
    models: tuple[str, ...] = ()
    """References, the first preferred; none: the default one."""
    time_zone: zoneinfo.ZoneInfo | None = None
    """Of schedules; None: the machine's own."""
    cameras: Mapping[str, CameraSettings] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    sinks: Mapping[str, Sink] = field(default_factory=dict)
    gate: GateSettings = field(default_factory=GateSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
