"""A training's log as a picture.

python -m models.demo.training.curves FOLDER OUT.png [OTHER_FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

SKILLS = ("rule", "name", "when", "state")
"""Not "where": no box is right to the pixel, which is what validation counts."""


def draw_curves(folder: Path, out: Path, other: Path | None = None) -> None:
    """Losses, and scores on validation scenes, over the steps of all stages.

    `other` is the folder of another run, whose scores are drawn dashed.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (losses, scores) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    lines = read_log(folder)
    for name, label in (("lesson", "what each actor is at"), ("said", "answers")):
        points = [(line["at"], line[name]) for line in lines if name in line]
        if points:
            losses.plot(*zip(*points, strict=True), label=label)
    losses.set(xlabel="step", ylabel="loss", yscale="log")
    losses.legend()
    for number, skill in enumerate(SKILLS):
        for run, dash in ((folder, "-"), (other, "--")):
            points = [
                (line["at"], line["validation"][skill])
                for line in (read_log(run) if run else [])
                if skill in line.get("validation", {})
            ]
            if points:
                label = skill if dash == "-" else "_nolegend_"
                scores.plot(*zip(*points, strict=True), dash, color=f"C{number}", label=label)
    scores.set(xlabel="step", ylabel="right, validation scenes", ylim=(0, 1))
    scores.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    pyplot.close(figure)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of all stages, each with `at`, the steps since the very first."""
    found: list[dict[str, Any]] = []
    before, stage, last = 0, None, 0
    for text in (folder / "log.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["stage"] != stage:
            before, stage = before + last, line["stage"]
        last = line["step"]
        found.append(line | {"at": before + last})
    return found


if __name__ == "__main__":
    draw_curves(Path(sys.argv[1]), Path(sys.argv[2]), *map(Path, sys.argv[3:4]))
