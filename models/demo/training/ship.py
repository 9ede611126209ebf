"""Put a trained model where the package finds it: the checkpoint, a quantized pair, log and curves.

python -m models.demo.training.ship RUN [--stage wordings]
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path

from models.demo.training.curves import draw_curves
from quantize import quantize

DEMO = Path(__file__).parents[1]
NAME = "miloco-edge-demo"
RECIPE = "q8_0"


def ship(run: Path, stage: str, out: Path = DEMO) -> None:
    """Replace the model that lies in `out` by that of a run's stage; other runs' logs stay."""
    checkpoint, pair, log = out / NAME, out / "pair", out / "log"
    for folder in (checkpoint, pair):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run / stage, checkpoint)
    manifest = quantize(checkpoint, pair, recipe=RECIPE, mmproj_type=RECIPE)
    # The folder beside it, wherever both lie on other machines.
    source = replace(manifest.source, path=os.path.relpath(checkpoint, pair))
    (path,) = pair.glob("*.manifest.json")
    path.write_text(replace(manifest, source=source).to_text(), encoding="utf-8")
    log.mkdir(exist_ok=True)
    for name in ("log.jsonl", "grpo.jsonl"):
        (log / name).unlink(missing_ok=True)
        if (run / name).exists():
            shutil.copyfile(run / name, log / name)
    draw_curves(log, log / "curves.png")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Ship a trained demo model.")
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--stage", default="wordings", help="a folder of the run: wordings, or grpo"
    )
    args = parser.parse_args()
    ship(args.run, args.stage)


if __name__ == "__main__":
    main()
