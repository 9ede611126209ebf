"""Pairs that were fitted to a size beside llama-quantize's mixtures of the same size.

    python -m benchmarks.fit_to_size CHECKPOINT --clips DIR|MANIFEST --work DIR \\
        --recipes q3_k_m iq4_xs q4_0 q4_k_m --out FILE.json --plot FILE.png

Every mixture, for both files, sets a budget: the bytes of its pair. For both its own pair and the
fitted one this gives the expected loss by one table of losses, and the KL divergence from the BF16
pair along its answers about the clips (miloco_edge.evaluate).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.host import describe_host
from miloco_edge.evaluate import Sample, compare
from quantize import Manifest, quantize
from quantize.candidates import Key, candidate_losses
from quantize.checkpoint import open_checkpoint
from quantize.clips import read_items
from quantize.codec import Type
from quantize.devices import ANY, DEVICES
from quantize.plan import survey

Losses = Mapping[Key, Mapping[Type, float]]


@dataclass(frozen=True)
class Measured:
    """A pair and how far it is from the BF16 pair."""

    kind: str
    """"mixture" or "fitted"."""
    recipe: str
    bytes: int
    expected_loss: float | None
    """None where the pair has a type that is not in the table: F16."""
    mean_kl: float
    kl_99: float
    top1: float
    fit_s: float | None


def read_samples(clips: Path, limit: int | None) -> list[Sample]:
    """The questions of a folder or manifest, `limit` at most."""
    return [
        Sample(item.media, ask.question, ask.target, item.start, item.end)
        for item in read_items(clips)
        for ask in item.asks
    ][:limit]


def table(checkpoint: Path, imatrix: Path | None) -> Losses:
    """The loss of every weight with every type, the vision tower's FFN as it is and padded."""
    every = survey(open_checkpoint(checkpoint), imatrix)
    files = (every.text(), *(every.mmproj(pad) for pad in (1, 32, 256)))
    return candidate_losses(every, ANY, None, files, threads=os.cpu_count() or 1, progress=None)


def loss_of(manifest: Manifest, losses: Losses) -> float | None:
    """Sum up what the types of a pair are expected to cost."""
    total = 0.0
    for tensor in manifest.tensors:
        found = losses.get((tensor.name, tensor.shape[-1]))
        if found is not None:
            loss = found.get(Type[tensor.type])
            if loss is None:
                return None
            total += loss
    return total


def measure(
    kind: str, manifest: Manifest, folder: Path, reference: Path, samples: Sequence[Sample],
    loss: float | None,
) -> Measured:  # fmt: skip
    """Compare the pair in `folder` with the reference, then remove it."""
    divergence = compare(folder, reference, samples).divergence
    shutil.rmtree(folder)
    return Measured(
        kind=kind,
        recipe=manifest.recipe,
        bytes=sum(output.bytes for output in manifest.outputs),
        expected_loss=loss,
        mean_kl=divergence.mean_kl,
        kl_99=divergence.kl_99,
        top1=divergence.top1,
        fit_s=manifest.fit.seconds if manifest.fit else None,
    )


def run(arguments: argparse.Namespace) -> list[Measured]:
    """Make and compare two pairs for each recipe."""
    checkpoint, work, imatrix = arguments.checkpoint, arguments.work, arguments.imatrix
    samples = read_samples(arguments.clips, arguments.limit)
    reference = work / "reference"
    quantize(checkpoint, reference, recipe="bf16")
    losses = table(checkpoint, imatrix)
    results = []
    for recipe in arguments.recipes:
        folder = work / recipe
        made = quantize(checkpoint, folder, recipe=recipe, mmproj_type=recipe, imatrix=imatrix)
        loss = loss_of(made, losses)
        results.append(measure("mixture", made, folder, reference, samples, loss))
        made = quantize(
            checkpoint, folder, budget=str(results[-1].bytes), imatrix=imatrix,
            sensitivity=arguments.sensitivity, device=DEVICES.get(arguments.device, ANY),
        )  # fmt: skip
        loss = loss_of(made, losses)
        results.append(measure("fitted", made, folder, reference, samples, loss))
    shutil.rmtree(reference)
    return results


_WIDTH, _HEIGHT, _MARGIN = 720, 440, 60
_COLOURS = {"mixture": (198, 40, 40), "fitted": (21, 101, 192)}


def draw(results: Sequence[Measured]) -> Image.Image:
    """Mean KL over the size of the pair, a line for the mixtures and one for the fitted pairs."""
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), (255, 255, 255))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    sizes, kls = [each.bytes for each in results], [each.mean_kl for each in results]
    low, high, top = min(sizes), max(sizes), max(*kls, 1e-12)

    def at(each: Measured) -> tuple[float, float]:
        across = (each.bytes - low) / max(high - low, 1)
        inner = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
        return _MARGIN + across * inner[0], _HEIGHT - _MARGIN - each.mean_kl / top * inner[1]

    axes = ((_MARGIN, _MARGIN), (_MARGIN, _HEIGHT - _MARGIN), (_WIDTH - 20, _HEIGHT - _MARGIN))
    pen.line(axes, (90, 90, 90))
    pen.text((_MARGIN, 20), f"mean KL from BF16, up to {top:.3g} nats", (0, 0, 0), font)
    pen.text(
        (_MARGIN, _HEIGHT - 40),
        f"both files: {low / 2**20:.1f} to {high / 2**20:.1f} MiB", (0, 0, 0), font,
    )  # fmt: skip
    for i, (kind, colour) in enumerate(_COLOURS.items()):
        series = sorted((each for each in results if each.kind == kind), key=lambda e: e.bytes)
        pen.text((_WIDTH - 160, 20 + 16 * i), kind, colour, font)
        pen.line([at(each) for each in series], colour, 2)
        for each in series:
            x, y = at(each)
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
            if kind == "mixture":
                pen.text((x + 5, y - 14), each.recipe, colour, font)
    return picture


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for the pairs")
    parser.add_argument("--recipes", nargs="+", default=["q3_k_m", "iq4_xs", "q4_0", "q4_k_m"])
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--sensitivity", type=Path)
    parser.add_argument("--device", choices=["any", *DEVICES], default="any")
    parser.add_argument("--limit", type=int, help="take so many questions at most")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    results = run(arguments)
    document = {
        "host": describe_host(),
        "checkpoint": arguments.checkpoint.name,
        "imatrix": arguments.imatrix and arguments.imatrix.name,
        "sensitivity": arguments.sensitivity and arguments.sensitivity.name,
        "device": arguments.device,
        "questions": arguments.limit,
        "pairs": [asdict(each) for each in results],
    }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.plot:
        draw(results).save(arguments.plot, "PNG")
    for each in results:
        print(f"{each.kind:8} {each.recipe:16} {each.bytes:12} {each.mean_kl:.6f}")


if __name__ == "__main__":
    main()
