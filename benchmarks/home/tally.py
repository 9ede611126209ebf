"""From what was told and held to figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.home.films import Block
from miloco_edge.hub.event import Event

EARLY_S = 0.6
"""A film drops frames while others begin, and a window has two a second: that is how well clocks
agree."""
SETTLE_S = 8.0
"""How long after its end something may still be told: a window, an interval and the engine."""


def score(
    events: Sequence[Event],
    looks: Sequence[tuple[str, float]],
    blocks: Sequence[Block],
    began: float,
    watched_s: float,
    *,
    agree: int,
) -> dict[str, Any]:
    """What was told of one camera's script.

    `looks` are the decisions of the model: rule and moment. `began` is when the script did, since
    1970. Each activity is an event of its own rule and of the rule "person": told once it is
    `found`, again it is `twice`, and what is told of nothing that was there is `false`. A missed
    one is `lost_to_gate` where the model saw fewer windows of it than have to agree.
    """
    told = [
        (event.rule.id, event.time - began)
        for event in events
        if event.state == "on" and event.reason != "seen_again"
    ]
    counts = Counter({name: 0 for name in ("found", "missed", "twice", "false", "lost_to_gate")})
    missed = []
    for block in blocks:
        start_s, end_s = block.start_s - EARLY_S, block.end_s + SETTLE_S
        for rule in (block.category, "person") if block.category else ():
            during = [e for e in told if e[0] == rule and start_s <= e[1] < end_s]
            told = [each for each in told if each not in during]
            counts["twice"] += max(0, len(during) - 1)
            if end_s > watched_s:
                continue  # it was not watched to its end
            counts["found" if during else "missed"] += 1
            if not during:
                seen = len(
                    [t for r, t in looks if r == rule and block.start_s <= t - began < end_s]
                )
                counts["lost_to_gate"] += seen < agree
                missed.append({"rule": rule, "start_s": block.start_s, "looks": seen})
    false = [{"rule": rule, "at_s": time_s} for rule, time_s in told]
    return {**counts, "false": len(false), "missed_ones": missed, "false_ones": false}


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50, p95 and p99, and of how many."""
    found: dict[str, float | None] = {
        f"p{q}": float(np.percentile(seconds, q)) if len(seconds) else None for q in (50, 95, 99)
    }
    return {"n": len(seconds), **found}


def slope(samples: Sequence[Mapping[str, float]], name: str) -> dict[str, Any]:
    """Growth per hour of what was sampled in the second half, with its 95 % interval.

    Neighbouring samples resemble each other, so the interval is widened by their lag-one
    correlation: its square by (1 + r) / (1 - r).
    """
    kept = samples[len(samples) // 2 :]
    values = np.array([each[name] for each in kept], float)
    found: dict[str, Any] = {"first": values[0], "last": values[-1], "most": values.max()}
    if len(kept) < 8:
        return {**found, "per_hour": None, "interval": None, "grows": None}
    hours = np.array([each["s"] for each in kept]) / 3600
    (per_hour, start), covariance = np.polyfit(hours, values, 1, cov="unscaled")
    rest = values - (per_hour * hours + start)
    power = float(rest @ rest)
    r = min(max(float(rest[1:] @ rest[:-1]) / power, 0.0), 0.99) if power else 0.0
    variance = covariance[0, 0] * power / (len(kept) - 2) * (1 + r) / (1 - r)
    interval = 1.96 * float(np.sqrt(variance))
    rounding = 1e-9 * float(np.abs(values).max())
    return {
        **found,
        "per_hour": float(per_hour),
        "interval": interval,
        "grows": bool(per_hour - interval > rounding),
    }
