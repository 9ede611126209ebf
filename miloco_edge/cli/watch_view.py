"""The live view of `miloco-edge watch`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from miloco_edge.hub.event import Event, rfc3339
from miloco_edge.hub.overload import Level
from miloco_edge.hub.status import RuleStatus, Status, ViewStatus


def view(status: Status, newest: Sequence[Event]) -> RenderableType:
    """Cameras, rules, p_yes, latency and gate; what happened last; how the engine fares."""
    table = Table(box=None, pad_edge=False)
    for column in ("camera", "rule", "is", "p_yes", "latency", "gate", "feed"):
        table.add_column(column)
    for each in status.views:
        name = each.camera if each.zone is None else f"{each.camera}/{each.zone}"
        for i, rule in enumerate(each.rules):
            first = i == 0
            table.add_row(
                name if first else "",
                Text(rule.text),
                Text(*_is(rule)),
                _p_yes(rule),
                _seconds(each.latency_s) if first else "",
                (each.gate or "") if first else "",
                Text(_feed(each)) if first else "",
            )
    lines = [
        Text(f"{rfc3339(event.time)}  {event.camera}  {event.rule.id}: {event.state}")
        for event in newest
    ]
    return Group(table, Text(), *lines, Text(), Text(_footer(status), style="dim"))


def _is(rule: RuleStatus) -> tuple[str, str]:
    if rule.decision is None:
        return "", ""
    if rule.decision.answer == "unknown":
        return rule.decision.reason or "unknown", "yellow"
    return ("on", "bold green") if rule.on else ("off", "dim")


def _p_yes(rule: RuleStatus) -> str:
    if rule.decision is None or rule.decision.p_yes is None:
        return ""
    return f"{rule.decision.p_yes:.2f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _feed(each: ViewStatus) -> str:
    return each.feed.error or each.feed.state


def _footer(status: Status) -> str:
    parts = [
        f"{status.model or 'model'} {status.engine}",
        f"load {status.load:.0%}",
        f"{status.waiting} windows and {status.questions} questions wait",
        f"{status.tokens_last_hour} tokens in the last hour",
    ]
    if status.level != Level():
        level = status.level
        parts.append(
            f"gives way: frames x{level.frames:g}, size x{level.size:g}, "
            f"interval x{level.interval:g}"
        )
    if status.journal_error is not None:
        parts.append(f"journal: {status.journal_error}")
    parts += [f"sink {name}: {error}" for name, error in status.sinks.items() if error]
    return " · ".join(parts)
