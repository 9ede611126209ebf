"""From what an engine said, or did not, to decisions and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from miloco_edge.engine.protocol import Seen
from miloco_edge.errors import ClosedError, EngineDownError, QuarantinedError
from miloco_edge.hub.event import Event, Evidence
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.watch import Told
from miloco_edge.hub.window import Window
from miloco_edge.types import Decision, Degraded

Made = list[tuple[Rule, Decision]]


def unseen(rules: Sequence[Rule], reason: str) -> Made:
    """What is decided of a window that was not looked at: nothing, and why."""
    return [(rule, Decision(rule.text, "unknown", None, None, "none", reason)) for rule in rules]


def in_time(rules: Sequence[Rule], seen: Seen, late_s: float) -> Made:
    """The decisions; one that came `late_s` after the window, and too late, is no answer."""
    return [
        (rule, replace(decision, answer="unknown", reason="deadline"))
        if rule.deadline_s is not None and late_s > rule.deadline_s
        else (rule, decision)
        for rule, decision in zip(rules, seen.decisions, strict=True)
    ]


def reason_for(error: BaseException) -> str:
    """A short word for why the engine did not look."""
    if isinstance(error, QuarantinedError):
        return "quarantined"
    if isinstance(error, (EngineDownError, ClosedError)):
        return "engine_down"
    return "engine_error"


def events_of(
    told: Told,
    camera: str,
    window: Window | None,
    *,
    epoch_s: float,
    now: float,
    model: str,
    degraded: Degraded | None,
) -> list[Event]:
    """What is told, with the window on which it rests."""
    evidence = None
    if window is not None:
        start, end = window.start_s + epoch_s, window.end_s + epoch_s
        evidence = Evidence(start, end, len(window.frames))
    return [
        Event.of(
            change,
            rule,
            camera,
            epoch_s=epoch_s,
            evidence=evidence,
            latency_s=None if window is None else now - window.end_s,
            model=model or None,
            degraded=degraded,
        )
        for rule, change in told
    ]
