"""Whether rules decided together get what each gets alone, fresh, on drawn clips.

    python -m benchmarks.rules_together demo --clips 100 --out FILE.json

Each clip of the test seeds is looked at once for sixteen rules in one call, and once more for each
rule by itself, with nothing kept between.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.host import describe_host
from miloco_edge import Clip, Decision, Engine
from models.demo.scenes import SEEDS, render
from models.demo.wordings import DOING, STATES

RULES = (
    *(f"Someone is {words['en'][0]}" for words in DOING.values()),
    *(words["en"][0] for words in STATES.values()),
    "有人在看书",
    "电视开着",
)
"""Sixteen."""


def decide(engine: Engine, clips: int) -> Iterator[tuple[Decision, Decision]]:
    """Each rule's decision beside the others, and alone."""
    for seed in SEEDS["test"][:clips]:
        scene = render(seed)
        clip = Clip.from_frames(list(scene.frames), fps=scene.fps)
        with engine.look(clip) as looked:
            together = looked.decide(RULES)
        for rule, beside in zip(RULES, together, strict=True):
            with engine.look(clip) as looked:
                (alone,) = looked.decide([rule])
            yield beside, alone


def main() -> None:
    """Decide, print and write what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with Engine.load(args.model, threads=args.threads) as engine:
        found = list(decide(engine, args.clips))
    moved = np.array([abs((a.p_yes or 0.0) - (b.p_yes or 0.0)) for a, b in found])
    result = {
        "host": describe_host(),
        "model": args.model,
        "clips": args.clips,
        "rules": RULES,
        "decisions": len(found),
        "unknown": sum(beside.answer == "unknown" for beside, _ in found),
        "same_answer": sum(a.answer == b.answer for a, b in found) / len(found),
        "p_yes_moved_mean": float(moved.mean()),
        "p_yes_moved_99": float(np.quantile(moved, 0.99)),
        "p_yes_moved_most": float(moved.max()),
    }
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k not in ("host", "rules")}, indent=1))


if __name__ == "__main__":
    main()
