"""From what a home says to what it means: sources, sinks and the engine."""

from __future__ import annotations

from miloco_edge.engine.child import ChildEngine
from miloco_edge.engine.child_limits import Limits
from miloco_edge.engine.child_quarantine import Quarantine
from miloco_edge.engine.failover import Failover
from miloco_edge.engine.protocol import WindowEngine
from miloco_edge.engine.remote import RemoteEngine
from miloco_edge.engine.remote_http import is_remote
from miloco_edge.errors import ConfigError, MilocoEdgeError
from miloco_edge.hub import secrets
from miloco_edge.hub.settings import CameraSettings, Home, LinesSink, WebhookSink
from miloco_edge.hub.settings import Sink as SinkSettings
from miloco_edge.hub.sinks import Lines, Sink, Webhook
from miloco_edge.video.address import masked
from miloco_edge.video.camera import source_at
from miloco_edge.video.feed import Feed
from miloco_edge.video.source import Clock, Source


def source_for(settings: CameraSettings) -> Source:
    """What gives a camera's frames."""
    return source_at(settings.source, timeout_s=settings.timeout_s, loop=settings.loop)


def feed_for(settings: CameraSettings, source: Source, clock: Clock) -> Feed:
    """What holds a camera's newest frames; one window and a little."""
    return Feed(
        source,
        seconds=settings.seconds + 1 / settings.fps,
        fps=settings.fps,
        masks=settings.masks,
        clock=clock,
    )


def sink_for(settings: SinkSettings) -> Sink:
    """What takes a home's events. Raises MilocoEdgeError for a kind that the hub does not know."""
    match settings:
        case LinesSink():
            return Lines(settings.name, settings.path)
        case WebhookSink():
            token = None if settings.token is None else settings.token.reveal()
            url = settings.url.secret()
            return Webhook(settings.name, url, token=token, timeout_s=settings.timeout_s)
    raise MilocoEdgeError(
        f"expected sinks of kind lines or webhook, got {settings.name} of kind mqtt",
        hint="`watch` and `serve` know it with the extra mqtt: pip install 'miloco-edge[mqtt]'; "
        "a program gives Hub(..., sinks={MqttSink: miloco_edge.serve.mqtt.Mqtt})",
    )


def engine_for(home: Home) -> WindowEngine:
    """The home's engine: a child process for files, a server for an URL, several in turn."""
    engines = [_engine(home, ref) for ref in home.models or (None,)]
    return engines[0] if len(engines) == 1 else Failover(engines)


def _engine(home: Home, ref: str | None) -> WindowEngine:
    settings = home.engine
    if ref is not None and is_remote(ref):
        return RemoteEngine(ref, api_key=_key(home, ref))
    options = {
        "context": settings.context, "threads": settings.threads, "kv_type": settings.kv_type,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    return ChildEngine(
        ref,
        limits=Limits(resident_bytes=settings.resident_bytes),
        quarantine=Quarantine(home.journal.path.with_name("quarantine")),
        gpu_layers=settings.gpu_layers,
        economy=settings.economy or settings.mode,
        prefixes=home.journal.path.with_name("prefixes"),
        **given,  # type: ignore[arg-type]
    )


def _key(home: Home, url: str) -> str | None:
    try:
        return secrets.remote_key(url)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            home.path, None, "model", f"expected to read the key of {masked(url)}, got: {error}"
        ) from error
