"""Are deadlines kept, with a real answer, and as predicted? On an idle machine and on a busy one.

    python -m benchmarks.deadlines MODEL --deadline 6 --deadline 12 --deadline 24 --windows 60
    python -m benchmarks.deadlines demo --deadline 0.5

Each window is new to the engine. Every second one is decided by two rules, the others are asked a
question; the clock runs from the decoded clip to what the caller gets. Half of each deadline's
windows have the machine for themselves; then, during the other halves, a second process takes one
core. A real answer is one that was read or said, whatever it says: with random weights the words
mean nothing; an answer that its deadline ends after some words is one, and `finish` counts those
apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.host import describe_host
from miloco_edge import Budget, Clip, Engine, Sampling
from miloco_edge.engine.planner import Intent, both
from miloco_edge.measure.film import mark, write_film

QUESTION = "What is the person in the picture doing?"
RULES = ("Someone is reading", "The lamp is on")
FRAMES = 6
ON_TIME, REAL, ERROR = 0.98, 0.95, 0.15
"""Shares of windows, and the 95th percentile of the relative error, that are promised."""


@dataclass(frozen=True)
class Window:
    """What became of one window."""

    asked: str
    """question or rules."""
    busy: bool
    """Whether another process had one core."""
    seconds: float
    predicted_s: float | None
    """Of the look before it began, and of the answer or the decisions before those did."""
    on_time: bool
    real: bool
    finish: str
    asked_for: dict[str, int | float] | None
    used: dict[str, int | float] | None
    """What was given up, if anything."""


@contextmanager
def a_core_taken(busy: bool) -> Iterator[None]:
    """Another process that computes as long as the block runs, if `busy`."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    if busy:
        process.start()
    try:
        yield
    finally:
        if busy:
            process.terminate()
            process.join()


def _spin() -> None:
    while True:
        pass


def measure_window(
    engine: Engine, clip: Clip, seconds: float, number: int, *, busy: bool, answer_tokens: int
) -> Window:
    """One window under a deadline."""
    mark(clip, number)
    rules = RULES if number % 2 else ()
    questions = () if rules else (QUESTION,)
    began = time.perf_counter()
    budget = Budget(seconds=seconds, answer_tokens=answer_tokens)
    with engine.look(clip, budget=budget, intent=Intent(questions, rules)) as scene:
        left = Budget(
            seconds=max(seconds - (time.perf_counter() - began), 1e-6), answer_tokens=answer_tokens
        )
        if rules:
            decided = scene.start_decide(rules, budget=left).result()
            took = time.perf_counter() - began
            reasons = {decision.reason for decision in decided}
            real = "deadline" not in reasons
            finish = "read" if real else "deadline"
            after, given_up = decided.timings.predicted_s, None
        else:
            answer = scene.ask(QUESTION, budget=left, sampling=Sampling())
            took = time.perf_counter() - began
            real, finish = bool(answer.text.strip()), answer.finish_reason
            after, given_up = answer.timings.predicted_s, answer.degraded
        look = scene.clip.degraded if scene.clip is not None else None
        predicted = both(scene.timings.predicted_s, after)
    every = [each for each in (look, given_up) if each is not None and each.reason == "deadline"]
    asked_for = {name: value for each in every for name, value in each.asked.items()}
    used = {name: value for each in every for name, value in each.used.items()}
    return Window(
        "rules" if rules else "question", busy, took, predicted, took <= seconds, real, finish,
        asked_for or None, used or None,
    )  # fmt: skip


def summary(windows: Sequence[Window]) -> dict[str, Any]:
    """Counts, and errors of the prediction where a window was not cut short."""
    errors = [
        abs(w.predicted_s - w.seconds) / w.seconds
        for w in windows
        if w.predicted_s is not None and w.finish in ("read", "stop", "length")
    ]
    used = [w.used.get("visual_tokens") for w in windows if w.used]
    shown = [tokens for tokens in used if tokens is not None]
    return {
        "windows": len(windows),
        "on_time": sum(w.on_time for w in windows),
        "real": sum(w.real for w in windows),
        "seconds": _quantiles([w.seconds for w in windows]),
        "predictions": len(errors),
        "error": _quantiles(errors),
        "finish": dict(Counter(w.finish for w in windows)),
        "gave_up": sum(w.used is not None for w in windows),
        "visual_tokens": _quantiles([float(each) for each in shown]),
    }


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    return {f"p{q}": float(np.percentile(values, q)) for q in (5, 50, 95)} if values else None


def measure(
    engine: Engine, film: Path, deadlines: Sequence[float], windows: int, answer_tokens: int
) -> list[dict[str, Any]]:
    """All deadlines on the idle machine, then all on the busy one."""
    clip = Clip.from_file(film, frames=FRAMES)
    number, found = 0, []
    for number in (1, 2):  # not counted: what is only slow at first
        measure_window(engine, clip, deadlines[0], number, busy=False, answer_tokens=answer_tokens)
    windows_of: dict[float, list[Window]] = {seconds: [] for seconds in deadlines}
    for busy in (False, True):
        with a_core_taken(busy):
            for seconds, _ in product(deadlines, range(windows // 2)):
                number += 1
                fresh = Clip.from_frames([f.pixels for f in clip.frames], fps=clip.fps)
                windows_of[seconds].append(
                    measure_window(
                        engine, fresh, seconds, number, busy=busy, answer_tokens=answer_tokens
                    )
                )
    for seconds, made in windows_of.items():
        halves = {
            name: summary([w for w in made if w.busy == busy])
            for name, busy in (("idle", False), ("busy", True))
        }
        whole = summary(made)
        error = halves["idle"]["error"]
        found.append(
            {
                "deadline_s": seconds,
                **whole,
                **halves,
                "kept": {
                    "on_time": whole["on_time"] >= ON_TIME * len(made),
                    "real": whole["real"] >= REAL * len(made),
                    "prediction_idle": error is not None and error["p95"] <= ERROR,
                },
                "samples": [asdict(w) for w in made],
            }
        )
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--deadline", type=float, action="append", required=True, dest="deadlines")
    parser.add_argument("--windows", type=int, default=60, help="of each deadline")
    parser.add_argument("--max-tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.windows < 2:
        parser.error("expected at least 2 windows, one on the idle machine and one on the busy one")
    with tempfile.TemporaryDirectory() as folder:
        film = write_film(Path(folder) / "film.mp4")
        with Engine.load(options.model, threads=options.threads) as engine:
            measured = engine.rates()
            results = measure(engine, film, options.deadlines, options.windows, options.max_tokens)
            pace = engine.rates()
            document = {
                "host": describe_host(),
                "model": engine.files.name,
                "settings": {name: str(value) for name, value in asdict(engine.settings).items()},
                "frames": FRAMES,
                "answer_tokens": options.max_tokens,
                "rates": {"before": asdict(measured), "after": asdict(pace)},
                "deadlines": results,
            }
    if options.out is not None:
        options.out.write_text(json.dumps(document, indent=1, default=asdict) + "\n", "utf-8")
    for one in results:
        error = one["idle"]["error"]
        print(
            f"{one['deadline_s']:g} s: {one['on_time']} of {one['windows']} windows on time, "
            f"{one['real']} with a real answer; when idle "
            + (f"off by {error['p50']:.0%} (p95 {error['p95']:.0%})" if error else "all cut short")
        )


if __name__ == "__main__":
    main()
