"""Finds how a model is best loaded on this machine: one setting after the other, measured.

The settings are tried in an order in which the early ones matter most, each with those before it as
they were chosen (coordinate descent): all combinations would take hours. A value is taken only
where it is shown to be quicker than the one held; where it is not, the default stays.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from miloco_edge import Engine
from miloco_edge.engine.profile import Choice, Machine, Profile, Tried, named
from miloco_edge.errors import EngineError
from miloco_edge.measure.loops import Report
from miloco_edge.measure.stages import Sample
from miloco_edge.measure.statistics import ratio_of_medians

LEAST_GAIN = 0.02
"""A setting is not changed for less."""

Options = Mapping[str, Any]
Load = Callable[[Options], AbstractContextManager[Engine]]
Serve = Callable[[Engine, int], Sample]


@dataclass(frozen=True)
class Setting:
    """An option of Engine.load and the values to try; None is the default."""

    name: str
    values: tuple[Any, ...]


def settings_for(
    physical: int, logical: int, *, gpu_layers: int | None, mmprojs: Sequence[str]
) -> list[Setting]:
    """What is worth trying here.

    `gpu_layers` is all layers of the model where there is a GPU and a build for it, else None;
    `mmprojs` are vision encoders that fit the model, beside the one that is taken by default.
    """
    found: list[Setting] = []
    if gpu_layers is not None:
        found.append(Setting("gpu_layers", (0, gpu_layers // 2, gpu_layers)))
    threads = {physical // 2, physical - 1, logical} - {0, physical}
    found.append(Setting("threads", tuple(sorted(threads))))
    found.append(Setting("mmproj", tuple(mmprojs)))
    found.append(Setting("repack", (True, False)))
    found.append(Setting("mmap", (True, False)))
    found.append(Setting("flash_attention", (True, False)))
    found.append(Setting("batch", (64, 128, 256, 1024)))
    found.append(Setting("kv_type", ("q8_0",)))
    return [setting for setting in found if setting.values]


def tune(
    load: Load,
    serve: Serve,
    settings: Sequence[Setting],
    machine: Machine,
    *,
    windows: int = 5,
    progress: Report = lambda done, total: None,
) -> Profile:
    """Try all settings and say what is best.

    `serve` measures one window on an engine, given its number: each setting sees the same ones.
    """
    total = 1 + sum(len(setting.values) for setting in settings)
    best: dict[str, Any] = {}
    held = _measure(load, best, serve, windows)
    done = 1
    progress(done, total)
    choices: list[Choice] = []
    for setting in settings:
        tried, samples = [Tried(None, _seconds(held))], {}
        for value in setting.values:
            try:
                found = _measure(load, {**best, setting.name: value}, serve, windows)
            except EngineError:
                tried.append(Tried(value, ()))  # it does not fit, or is not to be had here
            else:
                tried.append(Tried(value, _seconds(found)))
                samples[len(tried) - 1] = found
            done += 1
            progress(done, total)
        choice, index = choose(setting.name, tried)
        choices.append(choice)
        if index:
            best[setting.name] = choice.chosen
            held = samples[index]
    with load(best) as engine:
        figures, rates, mmproj = engine.gauge(), engine.rates(), named(engine.files.mmproj)
    return Profile(
        machine=machine,
        load=best,
        choices=tuple(choices),
        figures=tuple(figures),
        rates=rates,
        time=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        mmproj=mmproj,
    )


def choose(setting: str, tried: Sequence[Tried]) -> tuple[Choice, int]:
    """The quickest value, if it is shown to be quicker than the first; and its place.

    Shown: the interval of the ratio of medians lies below 1, and the ratio below by LEAST_GAIN.
    """
    measured = [i for i, each in enumerate(tried) if each.seconds]
    best = min(measured, key=lambda i: statistics.median(tried[i].seconds))
    ratio = ratio_of_medians(np.array(tried[0].seconds), np.array(tried[best].seconds))
    figures = f"{ratio.value:.3f} of its time ({ratio.low:.3f} to {ratio.high:.3f})"
    if best == 0:
        return Choice(setting, tuple(tried), None, 1.0, "nothing was quicker than the default"), 0
    value = tried[best].value
    if ratio.high >= 1 or ratio.value > 1 - LEAST_GAIN:
        why = f"{value} takes {figures}: not shown to be quicker than the default"
        return Choice(setting, tuple(tried), None, 1.0, why), 0
    return Choice(setting, tuple(tried), value, ratio.value, f"{value} takes {figures}"), best


def _measure(load: Load, options: Options, serve: Serve, windows: int) -> list[Sample]:
    """Load with options, and measure warm windows."""
    with load(options) as engine:
        return [serve(engine, n) for n in range(windows + 1)][1:]  # the first is cold


def _seconds(samples: Sequence[Sample]) -> tuple[float, ...]:
    return tuple(sample.stages.total_s for sample in samples)
