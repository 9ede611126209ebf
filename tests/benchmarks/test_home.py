"""What benchmarks.cameras counts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.home.films import Block
from benchmarks.home.tally import percentiles, score, slope
from miloco_edge.hub.event import Event
from miloco_edge.hub.rules import Rule, State

BEGAN = 1000.0
BLOCKS = [
    Block(0, 30, None),
    Block(30, 60, "reading"),
    Block(60, 90, None),
    Block(90, 120, "phone"),
]


def event(rule: str, time_s: float, state: State = "on", reason: str | None = None) -> Event:
    name = f"{rule} {time_s}"
    return Event(name, BEGAN + time_s, "hall", Rule(rule, rule), state, 0.0, reason=reason)


def counted(
    *events: Event, looks: tuple[tuple[str, float], ...] = (), watched_s: float = 130
) -> dict[str, Any]:
    return score(
        events, [(r, BEGAN + t) for r, t in looks], BLOCKS, BEGAN, watched_s, agree=2
    )  # fmt: skip


def test_what_is_told_once_in_its_time_is_found() -> None:
    found = counted(
        event("reading", 33), event("person", 64), event("person", 96), event("phone", 94)
    )
    assert found.pop("missed_ones") == found.pop("false_ones") == []
    assert found == {"found": 4, "missed": 0, "twice": 0, "false": 0, "lost_to_gate": 0}


def test_twice_false_and_missed_are_told_apart() -> None:
    found = counted(
        event("reading", 33),
        event("reading", 50),
        event("reading", 55, reason="seen_again"),
        event("reading", 80, state="off"),
        event("watch_tv", 50),
        looks=(("person", 33), ("person", 35), ("person", 91), ("phone", 92), ("phone", 94)),
    )
    assert (found["found"], found["twice"], found["false"]) == (1, 1, 1)
    assert found["false_ones"] == [{"rule": "watch_tv", "at_s": 50}]
    assert found["missed"] == 3
    assert [(e["rule"], e["start_s"], e["looks"]) for e in found["missed_ones"]] == [
        ("person", 30, 2),
        ("phone", 90, 2),
        ("person", 90, 1),
    ]
    assert found["lost_to_gate"] == 1, "the model saw one window of it, and two have to agree"


def test_what_was_not_watched_to_its_end_does_not_count() -> None:
    found = counted(event("reading", 29.95), event("person", 34), event("phone", 91), watched_s=100)
    assert (found["found"], found["missed"], found["false"]) == (2, 0, 0)


def test_growth_is_told_from_noise() -> None:
    random = np.random.default_rng(1)
    moments = np.arange(0, 1800, 10.0)
    noise = random.normal(0, 1e6, len(moments))
    samples = [
        {"s": s, "same": 40.0, "noisy": 3e8 + n, "leaks": 3e8 + 5e3 * s + n}
        for s, n in zip(moments.tolist(), noise.tolist(), strict=True)
    ]
    same, noisy, leaks = (slope(samples, name) for name in ("same", "noisy", "leaks"))
    assert not same["grows"] and same["per_hour"] == pytest.approx(0, abs=1e-6)
    assert not noisy["grows"] and abs(noisy["per_hour"]) < 2 * noisy["interval"]
    assert leaks["grows"] and leaks["per_hour"] == pytest.approx(1.8e7, rel=0.1)
    assert slope(samples[:5], "noisy")["grows"] is None


def test_percentiles_of_nothing_are_null() -> None:
    assert percentiles([]) == {"n": 0, "p50": None, "p95": None, "p99": None}
    assert percentiles([1.0, 3.0])["p50"] == 2


def test_counts_of_moments_that_numpy_measured_can_be_written() -> None:
    moments = [("reading", t) for t in np.array([BEGAN + 33, BEGAN + 95])]
    found = score([event("reading", np.float64(33))], moments, BLOCKS, BEGAN, 130, agree=2)
    assert json.loads(json.dumps(found))["found"] == 1
