"""What an imatrix from clips is worth beside one from text alone, and beside none.

    python -m benchmarks.imatrix_sources CHECKPOINT --calibration MANIFEST --clips MANIFEST \\
        --llama-imatrix PATH --work DIR --recipes q3_k_m iq4_xs q4_k_m --out FILE.json

The text is what llama-imatrix is commonly given: the questions and right answers of the calibration
manifest in the chat template's form, without the clips. Every recipe is made with each imatrix,
once with the mmproj left at BF16, so that the language model alone differs, and once with both
files quantized. For each this gives the KL divergence from the BF16 pair along its answers about
other clips (miloco_edge.evaluate).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.fit_to_size import read_samples
from benchmarks.host import describe_host
from miloco_edge.evaluate import compare
from quantize import quantize
from quantize.calibration import calibrate
from quantize.clips import read_items

CHUNK = 512
"""Tokens that llama-imatrix reads at once, its own default."""


@dataclass(frozen=True)
class Row:
    """A pair made with an imatrix and how far it is from the BF16 pair."""

    recipe: str
    mmproj: str
    imatrix: str
    """"none", "text" or "clips"."""
    bytes: int
    mean_kl: float
    kl_99: float
    top1: float


def written(manifest: Path) -> str:
    """A manifest's questions and right answers as one text."""
    return "\n".join(
        f"<|im_start|>user\n{ask.question}<|im_end|>\n<|im_start|>assistant\n{ask.target}<|im_end|>"
        for item in read_items(manifest)
        for ask in item.asks
        if ask.target is not None
    )


def from_text(program: Path, text_gguf: Path, manifest: Path, out: Path) -> None:
    """The imatrix of llama-imatrix; raises CalledProcessError with what it said."""
    corpus = out.with_suffix(".txt")
    corpus.write_text(written(manifest), encoding="utf-8")
    subprocess.run(
        [program, "-m", text_gguf, "-f", corpus, "-o", out, "--parse-special", "-c", str(CHUNK)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> Iterator[Row]:
    """Make and compare all pairs, one after the other."""
    checkpoint, work = arguments.checkpoint, arguments.work
    work.mkdir(parents=True, exist_ok=True)
    samples = read_samples(arguments.clips, arguments.limit)
    reference = work / "reference"
    made = quantize(checkpoint, reference, recipe="bf16")
    text_gguf = next(
        reference / output.file for output in made.outputs if "mmproj" not in output.file
    )
    text, clips = work / "text.gguf", work / "clips.gguf"
    from_text(arguments.llama_imatrix, text_gguf, arguments.calibration, text)
    calibrate(reference, clips, clips=arguments.calibration)
    for recipe in arguments.recipes:
        for mmproj in ("bf16", recipe):
            for name, imatrix in (("none", None), ("text", text), ("clips", clips)):
                folder = work / "pair"
                pair = quantize(
                    checkpoint, folder, recipe=recipe, mmproj_type=mmproj, imatrix=imatrix
                )
                found = compare(folder, reference, samples).divergence
                shutil.rmtree(folder)
                size = sum(output.bytes for output in pair.outputs)
                yield Row(recipe, mmproj, name, size, found.mean_kl, found.kl_99, found.top1)


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--calibration", type=Path, required=True, help="a manifest")
    parser.add_argument("--clips", type=Path, required=True, help="what is compared on")
    parser.add_argument("--llama-imatrix", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for the pairs")
    parser.add_argument("--recipes", nargs="+", default=["q3_k_m", "iq4_xs", "q4_0", "q4_k_m"])
    parser.add_argument("--limit", type=int, help="take so many questions at most")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for row in run(arguments):
        rows.append(asdict(row))
        print(f"{row.recipe:8} {row.mmproj:8} {row.imatrix:6} {row.mean_kl:.6f} {row.top1:.4f}")
    document = {
        "host": describe_host(),
        "checkpoint": arguments.checkpoint.name,
        "questions": arguments.limit,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
