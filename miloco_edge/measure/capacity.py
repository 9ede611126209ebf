"""How many cameras with how many rules this machine holds, at which interval.

The time that a window takes is measured for each number of rules. How windows then wait for each
other is simulated, since a real trial of every combination takes hours; the largest that is
promised for each number of rules is tried for real.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from miloco_edge import Engine
from miloco_edge.measure.loops import Report, at_rate, closed_loop
from miloco_edge.measure.stages import Sample, Workload, measure_window
from miloco_edge.measure.statistics import Floats

RULES = (1, 4, 16)
INTERVALS_S = (2.0, 5.0, 10.0, 30.0)
MOST_CAMERAS = 64
_SIMULATED = 2000
_QUANTILE = 0.95

_ACTIONS = ("reading", "lying", "sitting", "standing", "walking", "watching television")
_PLACES = ("the window", "the door", "the lamp", "the man", "the woman", "the child", "the dog")


@dataclass(frozen=True)
class Held:
    """What is held for one number of rules at one interval."""

    rules: int
    interval_s: float
    cameras: int
    """0 where not even one is."""
    p95_s: float | None
    """From capture to decision, predicted; None for no camera."""


@dataclass(frozen=True)
class Trial:
    """The largest promise for a number of rules, tried on the engine."""

    held: Held
    windows: int
    p95_s: float
    unanswered: int
    """Windows with a rule that was not decided in time."""
    kept: bool


@dataclass(frozen=True)
class Capacity:
    """What this machine holds."""

    deadline_s: float
    service_s: dict[int, list[float]]
    """Seconds of each measured window, by the number of rules."""
    held: tuple[Held, ...]
    trials: tuple[Trial, ...]


def measure_capacity(
    engine: Engine,
    workload: Workload,
    deadline_s: float,
    *,
    windows: int = 20,
    rules: Sequence[int] = RULES,
    intervals_s: Sequence[float] = INTERVALS_S,
    progress: Report = lambda done, total: None,
) -> Capacity:
    """Measure, predict, and try the largest prediction of each number of rules.

    A window is one look and its rules, without a question in words.
    """
    numbers = itertools.count()

    def serve(work: Workload, captured: float | None = None) -> Sample:
        return measure_window(engine, work, next(numbers), captured)

    service: dict[int, list[float]] = {}
    engine.forget()  # windows of these numbers that were measured before
    serve(with_rules(workload, rules[0]))  # cold, not counted
    for count in rules:
        work = with_rules(workload, count)
        samples = closed_loop(lambda _, work=work: serve(work), windows)  # type: ignore[misc]
        service[count] = [sample.stages.total_s for sample in samples]
        progress(len(service), len(rules))
    held = tuple(
        most_cameras(np.array(service[count]), count, interval, deadline_s)
        for count, interval in product(rules, intervals_s)
    )
    trials = []
    for count in rules:
        largest = max((h for h in held if h.rules == count), key=lambda h: h.cameras / h.interval_s)
        if largest.cameras:
            work = replace(with_rules(workload, count), deadline_s=deadline_s)
            between = largest.interval_s / largest.cameras
            samples = at_rate(lambda _, at, work=work: serve(work, at), windows, between)  # type: ignore[misc]
            trials.append(judge(largest, samples, deadline_s))
    return Capacity(deadline_s, service, held, tuple(trials))


def with_rules(workload: Workload, count: int) -> Workload:
    """The same windows with so many rules, all different, and no question; no deadline."""
    sentences = [f"Someone is {action} by {place}" for place, action in product(_PLACES, _ACTIONS)]
    if count > len(sentences):
        raise ValueError(f"expected at most {len(sentences)} rules, got {count}")
    return replace(workload, rules=tuple(sentences[:count]), question=None, deadline_s=None)


def most_cameras(service_s: Floats, rules: int, interval_s: float, deadline_s: float) -> Held:
    """The most cameras whose windows are decided within the deadline, 95 of 100 of them."""
    held = Held(rules, interval_s, 0, None)
    for cameras in range(1, MOST_CAMERAS + 1):
        if service_s.mean() * cameras >= interval_s:  # the queue would grow for ever
            break
        p95 = float(np.quantile(latencies(service_s, interval_s / cameras), _QUANTILE))
        if p95 > deadline_s:
            break
        held = Held(rules, interval_s, cameras, p95)
    return held


def latencies(service_s: Floats, between_s: float, windows: int = _SIMULATED) -> Floats:
    """From capture to decision of `windows` that come every `between_s` and are served in turn.

    (windows,) seconds. Each takes as long as one of the measured ones, drawn at random; waiting
    follows Lindley's recursion.
    """
    drawn = np.random.default_rng(0).choice(service_s, windows)
    wait, out = 0.0, np.empty(windows)
    for i, takes in enumerate(drawn):
        out[i] = wait + takes
        wait = max(0.0, out[i] - between_s)
    return out


def judge(held: Held, samples: Sequence[Sample], deadline_s: float) -> Trial:
    """Whether a trial kept what was predicted."""
    p95 = float(np.quantile([sample.stages.total_s for sample in samples], _QUANTILE))
    unanswered = sum(sample.unanswered for sample in samples)
    kept = p95 <= deadline_s and unanswered <= (1 - _QUANTILE) * len(samples)
    return Trial(held, len(samples), p95, unanswered, kept)
