"""What a home is made of: cameras, rules, sinks, the gate, the journal and the engine.

`config.read` makes these from home.toml; a program may make them itself.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from miloco_edge.hub.gate import GateSettings
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.secrets import Secret
from miloco_edge.video.address import Address
from miloco_edge.video.mask import Polygon


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
    """A picture that has not changed in a single pixel for so long is not live."""
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
    tls: bool = False
    prefix: str = "miloco_edge"
    discovery: str | None = "homeassistant"
    """Prefix of Home Assistant's discovery; "" for none."""
    user: Secret | None = None
    password: Secret | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"MqttSink.port: expected from 1 to 65535, got {self.port}")


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
