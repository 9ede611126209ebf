"""What leaving out pairs and tokens costs in F1 and saves in time, beside leaving out by chance.

    python -m benchmarks.economy MODEL --manifest test.jsonl --out FILE.json --markdown FILE.md

Every yes-or-no question of the manifest is decided under every measure, clip by clip with the
measures in turn, so that whatever the machine does meanwhile hits all of them. "by chance" leaves
out as many pairs or tokens as the measure beside it, drawn at random. A streamed window has been
reached pair by pair: before the clip its own frames run backwards. With --still N, N pairs in which
nothing happens go before each clip, as in a camera's usual hour. The difference of F1 is to exact
mode, with a 95 % bootstrap interval over clips (1000 resamples).
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.host import describe_host
from benchmarks.outcome import keep, say_where
from miloco_edge import Budget, Clip, Economy, Engine
from miloco_edge.engine.cache import EmbeddingCache
from miloco_edge.engine.closer import look_twice
from miloco_edge.engine.economy import LIVE, Closer
from miloco_edge.engine.protocol import Seen
from miloco_edge.evaluate.manifest import Item, read_manifest
from miloco_edge.evaluate.metrics import interval, macro_f1, mean
from miloco_edge.evaluate.run import Settings, read_clip
from miloco_edge.types import Calibration

VISUAL_TOKENS = 1024
NOISE = 2.0
"""Standard deviation of a sensor's noise, in levels."""


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    name: str
    economy: Economy = Economy()  # noqa: RUF009 - frozen
    by_chance: bool = False
    kv_q8_0: bool = False
    share: float = 1.0
    """Of the visual tokens of exact mode, as the budget."""


@dataclass(frozen=True)
class Answered:
    """One clip under one measure."""

    p_yes: tuple[float | None, ...]
    seconds: float
    visual_tokens: float
    savings: dict[str, int]


def measures() -> list[Measure]:
    """All rows; the first is exact mode."""
    static = [Economy(static_below=levels) for levels in (4.0, 8.0, 16.0, 32.0)]
    coarse = [Economy(coarse_below=levels) for levels in (16.0, 32.0, 64.0)]
    pruned = [
        *(Economy(prune_above=cosine) for cosine in (0.98, 0.95, 0.9, 0.8)),
        *(Economy(prune_share=share) for share in (0.25, 0.5, 0.75)),
    ]
    rows = [Measure("exact"), Measure("live", LIVE)]
    for economy in (*static, *coarse, *pruned):
        (name, value), = (
            (key, value) for key, value in asdict(economy).items() if value
        )  # fmt: skip
        rows += [
            Measure(f"{name} {value:g}", economy),
            Measure(f"{name} {value:g}, by chance", economy, by_chance=True),
        ]
    return [
        *rows,
        Measure("streaming", Economy(streaming=64)),
        Measure("half of the tokens", share=0.5),
        Measure("a quarter of the tokens", share=0.25),
        Measure("closer where in doubt", Economy(closer=Closer(share=0.25, doubt=0.3))),
        Measure("KV in q8_0", kv_q8_0=True),
    ]


class Bench:
    """Two engines that differ in the KV cache's type, and how a clip is looked at."""

    def __init__(self, model: str, *, threads: int | None, seed: int = 0) -> None:
        self._closing = contextlib.ExitStack()
        load = {"threads": threads, "profile": False}
        self._engines = {
            q8_0: self._closing.enter_context(
                Engine.load(model, **load, **extra)  # type: ignore[arg-type]
            )
            for q8_0, extra in (
                (False, {}), (True, {"kv_type": "q8_0", "flash_attention": True}),
            )
        }  # fmt: skip
        self._chance = np.random.default_rng(seed)
        self.files = self._engines[False].files

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def answer(self, clip: Clip, questions: Sequence[str], measure: Measure) -> Answered:
        """Decide all questions about a clip that was not seen before."""
        engine = self._engines[measure.kv_q8_0]
        lookout = engine._loaded.lookout
        lookout.embeddings = EmbeddingCache()
        if measure.economy.streaming:
            _run_up(engine, clip, measure.economy)
        lookout.control = self._chance if measure.by_chance else None
        kept: list[dict[str, int]] = []
        tokens: list[int] = []

        def look(some: Sequence[str], share: float) -> Seen:
            whole = engine.fit(clip, VISUAL_TOKENS)
            budget = max(4 * whole.temporal_patches, round(whole.visual_tokens * share))
            with engine.look(
                clip, budget=Budget(visual_tokens=budget), economy=measure.economy
            ) as scene:
                decided = scene.start_decide(
                    some, as_written=True, calibration=Calibration(), max_outside_mass=1.0
                ).result()
                kept.append(asdict(scene.savings) if scene.savings else {})
                tokens.append(scene.usage.visual_tokens)
                return Seen(decided.decisions, decided.usage, decided.timings)

        began = time.perf_counter()
        closer = measure.economy.closer
        seen = (
            look(questions, measure.share)
            if closer is None
            else look_twice(closer, questions, look)
        )
        seconds = time.perf_counter() - began
        lookout.control = None
        p_yes = tuple(decision.p_yes for decision in seen.decisions)
        return Answered(p_yes, seconds, sum(tokens), kept[-1])


def _run_up(engine: Engine, clip: Clip, economy: Economy) -> None:
    """Look at all windows before the clip: its frames backwards, one pair after the other.

    A last frame without another is a pair in the clip alone: before it, pairs are whole.
    """
    pixels = [frame.pixels for frame in clip.frames]
    odd = len(pixels) % 2
    film = [*reversed(pixels[odd:]), *pixels]
    for start in range(0, len(pixels) - odd, 2):
        window = Clip.from_frames(film[start : start + len(pixels) + odd], clip.fps)
        engine.look(window, budget=Budget(visual_tokens=VISUAL_TOKENS), economy=economy).close()


def held(clip: Clip, pairs: int) -> Clip:
    """The clip after so many pairs in which nothing happens: its first frame, and noise."""
    first, chance = clip.frames[0].pixels, np.random.default_rng(0)
    noise = chance.normal(0, NOISE, (2 * pairs, *first.shape))
    still = (first + noise).round().clip(0, 255).astype(np.uint8)
    return Clip.from_frames([*still, *(frame.pixels for frame in clip.frames)], clip.fps)


def run(
    bench: Bench, items: Sequence[Item], rows: Sequence[Measure], *, still: int = 0
) -> Iterator[tuple[list[Item], list[Answered]]]:
    """The items of each clip, and what each measure made of them."""
    turn = 0
    for _, group in groupby(items, lambda item: item.clip):
        of_clip = list(group)
        clip = read_clip(of_clip[0], Settings())
        if clip is None or len(clip.frames) < 4:
            continue  # nothing to leave out
        clip = held(clip, still)
        order = [(i + turn) % len(rows) for i in range(len(rows))]
        turn += 1
        questions = [item.question for item in of_clip]
        answers = {i: bench.answer(clip, questions, rows[i]) for i in order}
        yield of_clip, [answers[i] for i in range(len(rows))]


def table(
    rows: Sequence[Measure], asked: Sequence[tuple[list[Item], list[Answered]]]
) -> list[dict[str, Any]]:
    """Each measure's F1, tokens and seconds."""
    items = [item for of_clip, _ in asked for item in of_clip]
    truth = np.array([item.target == "yes" for item in items])
    categories = np.array([item.category or "" for item in items])
    groups = np.array([item.group or item.id for item in items])
    said = [
        np.array([(p or 0.0) >= 0.5 for _, answers in asked for p in answers[i].p_yes])
        for i in range(len(rows))
    ]
    result = []
    for i, row in enumerate(rows):
        answers = [answers[i] for _, answers in asked]

        def f1(at: Any, of: int) -> float | None:
            return macro_f1(said[of][at], truth[at], categories[at])

        def difference(at: Any, of: int = i) -> float | None:
            one, other = f1(at, of), f1(at, 0)
            return None if one is None or other is None else one - other

        everything = np.arange(len(items))
        exact = [answers[0] for _, answers in asked]
        result.append(
            {
                "measure": row.name,
                "settings": asdict(row),
                "questions": len(items),
                "clips": len(asked),
                "macro_f1": f1(everything, i),
                "f1_difference": difference(everything),
                "f1_difference_95": interval(groups, difference),
                "same_answers": mean(said[i] == said[0]),
                "visual_tokens": mean([each.visual_tokens for each in answers]),
                "pairs_left_out": _share(answers, "static", "pairs"),
                "seconds_p50": float(np.median([each.seconds for each in answers])),
                "time_ratio_p50": float(
                    np.median(
                        [one.seconds / other.seconds
                         for one, other in zip(answers, exact, strict=True)]
                    )
                ),
                "samples": [[each.seconds, *each.p_yes] for each in answers],
            }
        )  # fmt: skip
    return result


def _share(answers: Sequence[Answered], part: str, whole: str) -> float:
    total = sum(each.savings.get(whole, 0) for each in answers)
    return sum(each.savings.get(part, 0) for each in answers) / max(total, 1)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as a page has it."""
    lines = [
        "| measure | F1 | difference | 95 % | same answers | pairs left out | visual tokens "
        "| time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low_high = row["f1_difference_95"]
        between = "-" if low_high is None else f"{_points(low_high[0])} … {_points(low_high[1])}"
        cells = (
            row["measure"],
            "-" if row["macro_f1"] is None else f"{100 * row['macro_f1']:.1f}",
            _points(row["f1_difference"]),
            between,
            f"{100 * row['same_answers']:.1f} %",
            f"{100 * row['pairs_left_out']:.1f} %",
            f"{row['visual_tokens']:.0f}",
            f"{row['time_ratio_p50']:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="model reference")
    parser.add_argument("--manifest", type=Path, required=True)
    say_where(parser)
    parser.add_argument("--limit", type=int, help="take so many questions of the manifest")
    parser.add_argument(
        "--still", type=int, default=0, help="let so many pairs of stillness go before each clip"
    )
    parser.add_argument("--only", action="append", help="measures whose name begins so; repeatable")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    items = [i for i in read_manifest(arguments.manifest, arguments.limit) if i.task == "binary"]
    rows = measures()
    if arguments.only:
        rows = [rows[0], *(r for r in rows[1:] if r.name.startswith(tuple(arguments.only)))]
    asked = []
    with Bench(arguments.model, threads=arguments.threads) as bench:
        for done in run(bench, items, rows, still=arguments.still):
            asked.append(done)
            if len(asked) % 25 == 0:
                print(f"{len(asked)} clips", flush=True)
        model = {"name": bench.files.name, "sha256": bench.files.sha256}
    result = table(rows, asked)
    document = {
        "host": describe_host(),
        "model": model,
        "manifest": arguments.manifest.name,
        "visual_tokens_at_most": VISUAL_TOKENS,
        "still_pairs_before": arguments.still,
        "measures": result,
    }
    keep(document, markdown(result), arguments)


if __name__ == "__main__":
    main()
