"""How good the demo model is, on scenes and wordings that its training never saw.

    python -m benchmarks.demo_model --work DIR --out FILE.json --markdown FILE.md

Draws the held-out test seeds and the held-out style, asks the questions at once (/no_think) and
after a thought, through the checkpoint's BF16 pair and through the pair that ships. DIR keeps
clips, pairs and answers: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.host import describe_host
from benchmarks.outcome import keep, say_where
from miloco_edge import Engine
from miloco_edge.evaluate.journal import Journal
from miloco_edge.evaluate.manifest import read_manifest
from miloco_edge.evaluate.report import headlines
from miloco_edge.evaluate.run import Settings, ask_all
from miloco_edge.evaluate.score import score
from miloco_edge.evaluate.scores import Scores
from models.demo.manifest import write_manifest
from quantize import quantize

DEMO = Path(__file__).parents[1] / "models" / "demo"
TEST, STYLE = 1500, 1000


@dataclass(frozen=True)
class Run:
    """A set of questions and how they are asked."""

    name: str
    split: str
    pair: str
    think: bool = False


RUNS = (
    Run("held-out seeds", "test", "bf16"),
    Run("held-out seeds, thinking", "test", "bf16", think=True),
    Run("held-out style", "style", "bf16"),
    Run("held-out seeds, as shipped", "test", "shipped"),
)


def measure(work: Path, threads: int | None) -> Iterator[tuple[Run, Scores]]:
    """Each run's scores, as it is done."""
    bf16 = work / "bf16"
    if not any(bf16.glob("*.manifest.json")):  # it is written last
        quantize(DEMO / "miloco-edge-demo", bf16, recipe="bf16")
    for run in RUNS:
        folder = work / run.split
        manifest = folder / f"{run.split}.jsonl"
        if not manifest.exists():
            write_manifest(folder, run.split, STYLE if run.split == "style" else TEST)
        items = read_manifest(manifest)
        pair = bf16 if run.pair == "bf16" else DEMO / "pair"
        settings = Settings(think=run.think)
        answers = work / f"{run.name.replace(', ', '-').replace(' ', '-')}.jsonl"
        with Journal(answers) as journal, Engine.load(pair, threads=threads) as engine:
            replies = ask_all(engine, items, settings, journal)
        yield run, score(items, replies, think=run.think)


def markdown(found: list[tuple[Run, Scores]]) -> str:
    """A row for each run's figure of each task, then F1 by category."""
    lines = ["| set | task | measure | value | 95 % | questions |", "|---|---|---|---|---|---|"]
    for run, scores in found:
        for line in headlines(scores):
            value, low, high = (
                "-" if one is None else f"{100 * one:.1f}"
                for one in (line.estimate.value, line.estimate.low, line.estimate.high)
            )
            cells = (run.name, line.task, line.measure, value, f"{low} – {high}", str(line.n))
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| category | " + " | ".join(run.name for run, _ in found) + " |"]
    lines.append("|---|" + "---|" * len(found))
    first = found[0][1].answers
    for category in first.categories if first else ():
        row = (_f1(scores, category) for _, scores in found)
        lines.append(f"| {category} | {' | '.join(row)} |")
    lines += [
        "",
        "| set | answers | with a thought | tags all the model's own |",
        "|---|---|---|---|",
    ]
    for run, scores in found:
        told = scores.thinking
        own = "-" if told.own_tags_share is None else f"{100 * told.own_tags_share:.2f} %"
        share = "-" if told.thought_share is None else f"{100 * told.thought_share:.2f} %"
        lines.append(f"| {run.name} | {told.answers} | {share} | {own} |")
    return "\n".join(lines) + "\n"


def _f1(scores: Scores, category: str) -> str:
    value = scores.answers.categories[category].f1.value if scores.answers else None
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="clips, pairs and answers")
    say_where(parser)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    found = list(measure(args.work, args.threads))
    runs = [asdict(run) | {"scores": asdict(scores)} for run, scores in found]
    keep({"host": describe_host(), "runs": runs}, markdown(found), args)


if __name__ == "__main__":
    main()
