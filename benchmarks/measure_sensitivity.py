"""Measure how much more than others the weights of a model matter: factors for --sensitivity.

    python -m benchmarks.measure_sensitivity CHECKPOINT --clips DIR|MANIFEST --work DIR \\
        --type Q3_K --out sensitivity.json

One role after the other ("blk.*.ffn_down.weight") is quantized to one type while all else stays
BF16. What the mean KL divergence from the BF16 pair comes to, over what was expected of it, is how
much that role matters; factors are scaled so that their geometric mean is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from math import exp, log
from pathlib import Path

from benchmarks.fit_to_size import loss_of, read_samples, table
from miloco_edge.evaluate import compare
from quantize import quantize

FLOOR = 1e-3
"""The least factor, for what cannot be told from no effect."""


def recipe_for(name: str, type: str) -> str:
    """A recipe file that quantizes the weights like `name` alone."""
    rule = f'match = "{name}"\ntype = "{type}"\n'
    files = ("mmproj", "text") if name.startswith(("v.", "mm.")) else ("text", "mmproj")
    return (
        f'[{files[0]}]\ndefault = "BF16"\n[[{files[0]}.rules]]\n{rule}'
        f'[{files[1]}]\ndefault = "BF16"\n'
    )


def main() -> None:
    """Measure, and write the factors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for the pairs")
    parser.add_argument("--type", default="Q4_K", help="coarse enough to be seen in the KL")
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--limit", type=int, help="take so many questions at most")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    samples = read_samples(arguments.clips, arguments.limit)
    arguments.work.mkdir(parents=True, exist_ok=True)
    reference, folder = arguments.work / "reference", arguments.work / "pair"
    quantize(arguments.checkpoint, reference, recipe="bf16")
    losses = table(arguments.checkpoint, arguments.imatrix)
    measured: dict[str, float] = {}
    for name in dict.fromkeys(re.sub(r"\bblk\.\d+\.", "blk.*.", name) for name, _ in losses):
        recipe = arguments.work / "one.toml"
        recipe.write_text(recipe_for(name, arguments.type))
        made = quantize(arguments.checkpoint, folder, recipe=str(recipe), imatrix=arguments.imatrix)
        expected = loss_of(made, losses)
        if not expected:
            raise SystemExit(f"expected {name} to lose something as {arguments.type}")
        kl = compare(folder, reference, samples).divergence.mean_kl
        measured[name] = kl / expected
        print(f"{name:28} KL {kl:.6f}, expected loss {expected:.6f}")
        shutil.rmtree(folder)
    shutil.rmtree(reference)
    positive = [value for value in measured.values() if value > 0]
    mean = exp(sum(map(log, positive)) / len(positive))
    factors = {name: max(round(value / mean, 4), FLOOR) for name, value in measured.items()}
    arguments.out.write_text(json.dumps(factors, indent=1) + "\n")


if __name__ == "__main__":
    main()
