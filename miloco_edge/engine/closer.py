"""A cheap look at a window first, and a closer one for the rules that it leaves in doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from miloco_edge.engine.economy import Closer
from miloco_edge.engine.planner import both
from miloco_edge.engine.protocol import Seen
from miloco_edge.types import Decision, Degraded, Timings, Usage, together

Counted = TypeVar("Counted", Usage, Timings)

Look = Callable[[Sequence[str], float], Seen]
"""Looks with a share of the visual tokens and decides some rules."""


def look_twice(closer: Closer, rules: Sequence[str], look: Look) -> Seen:
    """Decide rules with a cheap look, and those in doubt with a closer one.

    The closer look counts, unless it came to nothing, as for want of time; that is told.
    """
    seen = look(rules, closer.share)
    doubtful = [i for i, made in enumerate(seen.decisions) if _in_doubt(made, closer.doubt)]
    if len(rules) - len(doubtful) >= closer.enough * len(rules):
        return seen
    close = look([rules[i] for i in doubtful], 1.0)
    decisions = list(seen.decisions)
    for i, made in zip(doubtful, close.decisions, strict=True):
        if made.answer != "unknown" or decisions[i].answer == "unknown":
            decisions[i] = made
    predicted_s = both(seen.timings.predicted_s, close.timings.predicted_s)
    return Seen(
        tuple(decisions),
        _sum(seen.usage, close.usage),
        replace(_sum(seen.timings, close.timings), predicted_s=predicted_s),
        together(close.degraded, missed(len(doubtful), in_time(close))),
    )


def missed(rules: int, looked_at: int, reason: str = "deadline") -> Degraded | None:
    """What is told where not all rules were looked at closely that should have been."""
    if looked_at == rules:
        return None
    return Degraded(reason, {"closer_rules": rules}, {"closer_rules": looked_at})


def in_time(seen: Seen) -> int:
    """For how many rules a look came in time."""
    return sum(made.reason != "deadline" for made in seen.decisions)


def _in_doubt(made: Decision, doubt: float) -> bool:
    """Whether a closer look may tell more; not where nothing was to be seen or time ran out."""
    if made.p_yes is None:
        return False
    return made.answer == "unknown" or abs(made.p_yes - 0.5) < doubt


def _sum(a: Counted, b: Counted) -> Counted:
    summed: dict[str, Any] = {}
    for each in fields(a):
        known = [x for x in (getattr(a, each.name), getattr(b, each.name)) if x is not None]
        summed[each.name] = sum(known) if known else None
    return type(a)(**summed)
