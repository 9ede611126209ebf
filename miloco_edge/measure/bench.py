"""Windows measured on a loaded model, and all that a figure needs beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from miloco_edge import Engine
from miloco_edge.llama import system_info
from miloco_edge.llama.offload import gpu_backend
from miloco_edge.measure.energy import Energy, Meter
from miloco_edge.measure.facts import ModelFacts
from miloco_edge.measure.host import describe_host, peak_resident_bytes, thermal_state
from miloco_edge.measure.loops import Report, at_rate, closed_loop
from miloco_edge.measure.stages import STAGES, Sample, Workload, measure_window
from miloco_edge.measure.statistics import summarise

SCHEMA = 1
Document = dict[str, Any]
"""Of JSON values: seconds, bytes, and null for what does not apply."""


@dataclass(frozen=True)
class Plan:
    """How many windows, and when they come."""

    windows: int = 10
    """Warm ones; one more is served before them, cold."""
    interval_s: float | None = None
    """From one window to the next; None: each after the one before it."""


def run(
    engine: Engine, workload: Workload, plan: Plan, meter: Meter | None, progress: Report
) -> tuple[list[Sample], Energy | None]:
    """Serve a cold window and then the warm ones; the energy is that of the warm ones."""
    first = measure_window(engine, workload, 0, cold=True)
    if meter is not None:
        meter.start()
    if plan.interval_s is None:
        warm = closed_loop(
            lambda number: measure_window(engine, workload, number + 1), plan.windows, progress
        )
    else:
        warm = at_rate(
            lambda number, captured: measure_window(engine, workload, number + 1, captured),
            plan.windows,
            plan.interval_s,
            progress,
        )
    return [first, *warm], None if meter is None else meter.stop()


def measure(
    engine: Engine,
    workload: Workload,
    plan: Plan,
    *,
    model: Mapping[str, Any],
    config: Mapping[str, Any],
    facts: ModelFacts,
    meter: Meter | None,
    no_meter: str | None,
    idle_watts: float | None,
    progress: Report = lambda done, total: None,
) -> Document:
    """Measure, and describe what was measured on which machine.

    `model` and `config` are written down as they are; `no_meter` says why there is no sensor.
    """
    before = thermal_state()
    samples, energy = run(engine, workload, plan, meter, progress)
    after = thermal_state()
    warm = [sample for sample in samples if not sample.cold]
    throttled = (
        None
        if before.throttled is None or after.throttled is None
        else after.throttled - before.throttled
    )
    return {
        "schema": SCHEMA,
        "test_time": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        "host": asdict(describe_host()),
        "build": build(),
        "model": {**model, **_sizes(facts)},
        "config": {
            **config,
            "windows": plan.windows,
            "interval_s": plan.interval_s,
            "deadline_s": workload.deadline_s,
            "question": workload.question,
            "rules": list(workload.rules),
            "answer_tokens": workload.answer_tokens,
            "visual_tokens": workload.visual_tokens,
        },
        "load_s": engine.load_s,
        "stages": {
            "cold": stage_figures([sample for sample in samples if sample.cold]),
            "warm": stage_figures(warm),
        },
        "deadline": deadlines(warm, workload.deadline_s),
        "peak_resident_bytes": peak_resident_bytes(),
        "energy": energy_per_answer(energy, len(warm), idle_watts, no_meter),
        "thermal": {"before": asdict(before), "after": asdict(after), "throttled": throttled},
        "answers_sha256": answers_hash(samples),
        "samples": [asdict(sample) for sample in samples],
    }


def build() -> Document:
    """The llama.cpp that computes: its kernels and flags, and its GPU backend."""
    return {"kernels": system_info(), "gpu_backend": gpu_backend()}


def stage_figures(samples: Sequence[Sample]) -> Document:
    """Each stage's figures; None for one that no sample has."""
    figures: Document = {}
    for stage in STAGES:
        values = [v for s in samples if (v := getattr(s.stages, stage)) is not None]
        figures[stage] = asdict(summarise(values)) if values else None
    return figures


def deadlines(samples: Sequence[Sample], deadline_s: float | None) -> Document | None:
    """How many windows came back late, and how many without an answer, out of all."""
    if deadline_s is None:
        return None
    return {
        "deadline_s": deadline_s,
        "windows": len(samples),
        "late": sum(sample.stages.total_s > deadline_s for sample in samples),
        "unanswered": sum(sample.unanswered for sample in samples),
    }


def energy_per_answer(
    energy: Energy | None, windows: int, idle_watts: float | None, no_meter: str | None
) -> Document:
    """Joules of a window, gross and without what the machine takes at rest; else why not."""
    if energy is None:
        return {
            "sensor": None, "joules": None, "joules_above_idle": None, "idle_watts": None,
            "reason": no_meter or "the sensor said too little",
        }  # fmt: skip
    above = None if idle_watts is None else energy.joules - idle_watts * energy.seconds
    return {
        "sensor": energy.sensor,
        "joules": energy.joules / windows,
        "joules_above_idle": None if above is None else above / windows,
        "idle_watts": idle_watts,
        "reason": None,
    }


def idle_power(meter: Meter, seconds: float, sleep: Callable[[float], None]) -> float | None:
    """Watts at rest."""
    meter.start()
    sleep(seconds)
    energy = meter.stop()
    return None if energy is None else energy.joules / energy.seconds


def answers_hash(samples: Sequence[Sample]) -> str:
    """Of all that the model said, in order: the same files, film and kernels give the same."""
    said = [[sample.answer, sample.finish_reason, sample.decisions] for sample in samples]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _sizes(facts: ModelFacts) -> Document:
    return {
        "text_bytes": facts.text_bytes,
        "mmproj_bytes": facts.mmproj_bytes,
        "parameters": facts.parameters,
        "text_type": facts.text_type,
        "vision_type": facts.vision_type,
    }
