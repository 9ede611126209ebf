"""What quantization, layout, frames and resolution are worth: one varied at a time.

    python -m benchmarks.layouts CHECKPOINT --manifest test.jsonl --work DIR \\
        --out FILE.json --markdown FILE.md

Everything else stays at BF16, transformers' video layout, six frames and their full size. WORK
holds the pairs and every answer: a run that was stopped goes on. Layout "pairs" is what libmtmd
makes of a video: merged frame pairs, each a picture of its own between its own markers, with one
temporal position (tools/mtmd/mtmd.cpp, mtmd_image_tokens_get_decoder_pos).
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal
from unittest.mock import patch

from benchmarks.host import describe_host
from miloco_edge import Economy, Engine
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.look import Lookout, Prefilled
from miloco_edge.evaluate.journal import Journal
from miloco_edge.evaluate.manifest import Item, read_manifest
from miloco_edge.evaluate.run import Settings, ask_all
from miloco_edge.evaluate.score import score
from miloco_edge.evaluate.scores import Estimate, Scores
from miloco_edge.video import FittedClip
from quantize import quantize

TYPES = ("bf16", "q8_0", "q6_k", "q4_k_m", "q4_0", "iq4_xs")
FRAMES = (2, 4, 6, 8)
VISUAL_TOKENS = (1024, 96, 72)
"""Of three frame pairs: full size, at most 32 and at most 24 tokens a pair."""
FLOOR_TOKENS = 20
"""The least of a pair that the demo model takes. The runtime leaves frames out rather than show
fewer than 64 a pair; drawn clips have fewer than that at their full size. With this floor a budget
lowers their resolution alone."""
BASE = Settings(frames=6, visual_tokens=1024)

Layout = Literal["video", "pairs", "images"]


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    factor: str
    value: str
    recipe: str = "bf16"
    settings: Settings = BASE
    layout: Layout = "video"

    @property
    def name(self) -> str:
        """As its files are called."""
        return f"{self.factor}-{self.value}".replace(" ", "-")


@dataclass(frozen=True)
class Row:
    """What a variant came to."""

    factor: str
    value: str
    bytes: int
    """Text GGUF and mmproj together."""
    items: int
    visual_tokens: float | None
    macro_f1: Estimate | None
    p_yes_macro_f1: Estimate | None
    balanced_accuracy: Estimate | None
    brier: Estimate | None
    miou: Estimate | None
    centre_accuracy: Estimate | None
    exact_match: Estimate | None
    look_p50_s: float | None
    answer_p50_s: float | None
    settings: Settings = field(default=BASE)


def variants() -> list[Variant]:
    """All rows; the base is in each factor."""
    return [
        *(Variant("type", recipe, recipe=recipe) for recipe in TYPES),
        Variant("layout", "video"),
        Variant("layout", "pairs", layout="pairs"),
        Variant("layout", "images", layout="images", settings=replace(BASE, layout="images")),
        *(Variant("frames", str(n), settings=replace(BASE, frames=n)) for n in FRAMES),
        *(
            Variant("visual tokens", str(n), settings=replace(BASE, visual_tokens=n))
            for n in VISUAL_TOKENS
        ),
    ]


@contextlib.contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Within it, a video is prefilled as libmtmd does if `layout` is "pairs"."""
    if layout != "pairs":
        yield
        return

    def in_turn(
        self: Lookout,
        clip: FittedClip,
        keys: tuple[bytes, ...],
        system: str,
        step: int,
        economy: Economy,
        interrupt: Interrupt,
    ) -> Prefilled:
        return self._look_at_pictures(clip, keys, system, interrupt)

    with patch.object(Lookout, "_look_at_video", in_turn):
        yield


def measure(
    checkpoint: Path,
    items: Sequence[Item],
    work: Path,
    threads: int | None = None,
    rows: Sequence[Variant] = (),
) -> Iterator[Row]:
    """Each variant's row, as it is done."""
    work.mkdir(parents=True, exist_ok=True)
    for variant in rows or variants():
        pair = work / variant.recipe
        if not any(pair.glob("*.manifest.json")):  # it is written last
            quantize(checkpoint, pair, recipe=variant.recipe)
        with (
            Journal(work / f"{variant.name}.jsonl") as journal,
            Engine.load(pair, threads=threads) as engine,
            laid_out(variant.layout),
            patch("miloco_edge.video.fit.FLOOR_TOKENS", FLOOR_TOKENS),
        ):
            replies = ask_all(engine, items, variant.settings, journal)
        size = sum(path.stat().st_size for path in pair.glob("*.gguf"))
        yield _row(variant, score(items, replies, think=False), len(items), size)


def _row(variant: Variant, scores: Scores, items: int, size: int) -> Row:
    answers, decisions, p_yes = scores.answers, scores.decisions, scores.p_yes
    return Row(
        factor=variant.factor,
        value=variant.value,
        bytes=size,
        items=items,
        visual_tokens=scores.visual_tokens,
        macro_f1=answers.macro_f1 if answers else None,
        p_yes_macro_f1=decisions.macro_f1 if decisions else None,
        balanced_accuracy=answers.balanced_accuracy if answers else None,
        brier=p_yes.brier if p_yes else None,
        miou=scores.temporal.miou if scores.temporal else None,
        centre_accuracy=scores.point.centre_accuracy if scores.point else None,
        exact_match=scores.exact.accuracy if scores.exact else None,
        look_p50_s=scores.look_s.p50,
        answer_p50_s=scores.answer_s.p50,
        settings=variant.settings,
    )


def markdown(rows: Sequence[Row]) -> str:
    """The table, with 95 % intervals of F1."""
    columns = ("", "MB", "visual tokens", "F1", "95 %", "F1 by p_yes", "Brier", "mIoU", "centre")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        f1 = row.macro_f1
        interval = f"{_percent(f1.low)} – {_percent(f1.high)}" if f1 else "-"
        cells = (
            f"{row.factor} {row.value}",
            f"{row.bytes / 1e6:.1f}",
            "-" if row.visual_tokens is None else f"{row.visual_tokens:.0f}",
            _value(f1),
            interval,
            _value(row.p_yes_macro_f1),
            "-" if row.brier is None or row.brier.value is None else f"{row.brier.value:.4f}",
            _value(row.miou),
            _value(row.centre_accuracy),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _value(estimate: Estimate | None) -> str:
    return _percent(estimate.value if estimate else None)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="pairs and answers are kept here")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--limit", type=int, help="ask so many questions at most")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    items = read_manifest(arguments.manifest, arguments.limit)
    done: list[Row] = []
    for row in measure(arguments.checkpoint, items, arguments.work, arguments.threads):
        done.append(row)
        print(markdown(done[-1:]).splitlines()[-1], flush=True)
        document = {
            "host": describe_host(),
            "checkpoint": arguments.checkpoint.name,
            "manifest": arguments.manifest.name,
            "rows": [asdict(row) for row in done],
        }
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(done))


if __name__ == "__main__":
    main()
