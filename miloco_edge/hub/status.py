"""What a hub looks like at one moment, for people and for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miloco_edge.engine.protocol import EngineState
from miloco_edge.hub.overload import Level
from miloco_edge.hub.scheduler import Counts
from miloco_edge.types import Decision
from miloco_edge.video.feed import FeedStatus

if TYPE_CHECKING:
    from miloco_edge.hub.hub import Hub


@dataclass(frozen=True)
class RuleStatus:
    """A rule on one camera."""

    id: str
    text: str
    on: bool
    decision: Decision | None
    """The last."""


@dataclass(frozen=True)
class ViewStatus:
    """A camera, or a zone of it."""

    camera: str
    zone: str | None
    feed: FeedStatus
    gate: str | None
    """What the gate said of the newest window: `look:motion`, `skip:still`."""
    gate_counts: Mapping[str, int]
    latency_s: float | None
    """From the newest examined window's last frame to its decisions."""
    rules: tuple[RuleStatus, ...]


@dataclass(frozen=True)
class Status:
    """Everything."""

    model: str
    engine: EngineState
    views: tuple[ViewStatus, ...]
    waiting: int
    questions: int
    counts: Counts
    load: float
    level: Level
    tokens_last_hour: int
    journal_error: str | None
    sinks: Mapping[str, str | None]
    """By name, why it cannot be reached."""
    feeds: Mapping[str, FeedStatus] = field(default_factory=dict)
    """By camera, those included that no rule is about."""


def status_of(hub: Hub, now: float) -> Status:
    """How a hub is now; in the hub's own thread."""
    views = []
    for camera, watches in hub._cameras.watches.items():
        for watch in watches:
            gated = watch.gated
            rules = tuple(
                RuleStatus(
                    rule.id, rule.text, watch.memories[rule.id].on, watch.decisions.get(rule.id)
                )
                for rule in watch.rules
            )
            said = None if gated is None else f"{'look' if gated.look else 'skip'}:{gated.reason}"
            views.append(
                ViewStatus(
                    camera,
                    watch.zone,
                    hub._cameras.feeds[camera].status,
                    said,
                    dict(watch.gate.counts),
                    watch.latency_s,
                    rules,
                )
            )
    return Status(
        hub.engine.name,
        hub.engine.state,
        tuple(views),
        hub._scheduler.waiting,
        hub._scheduler.questions,
        hub._scheduler.counts,
        hub._overload.load,
        hub._overload.level,
        hub._tokens.last_hour(now),
        hub.journal.error,
        {outlet.sink.name: outlet.error for outlet in hub.outlets},
        {name: feed.status for name, feed in hub._cameras.feeds.items()},
    )
