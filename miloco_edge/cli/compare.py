"""`miloco-edge compare`: a quantized model beside the model that it was made from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from miloco_edge.cli.options import json_option, load_options, visual_tokens_option
from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.evaluate import Comparison, Sample, compare
from quantize.clips import read_items


@click.command("compare")
@click.argument("model")
@click.argument("reference")
@click.option(
    "--clips",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder of videos and pictures, or a JSONL manifest of clips with questions.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Take so many questions at most.")
@visual_tokens_option(None, "Most visual tokens of a clip.")
@load_options
@json_option
def compare_command(
    output: Output,
    *,
    model: str,
    reference: str,
    clips: Path,
    limit: int | None,
    visual_tokens: int | None,
    load: LoadOptions,
) -> None:
    """Measure how far MODEL is from REFERENCE: KL divergence, top-1 agreement, p_yes, F1, speed."""
    samples = [
        Sample(item.media, ask.question, ask.target, item.start, item.end)
        for item in read_items(clips)
        for ask in item.asks
    ][:limit]
    with progress_bar(output, "comparing") as progress:
        comparison = compare(
            model,
            reference,
            samples,
            visual_tokens=visual_tokens,
            progress=progress,
            **load,
        )
    if output.as_json:
        output.data(asdict(comparison))
    else:
        _show(output, comparison)


def _show(output: Output, comparison: Comparison) -> None:
    divergence = comparison.divergence
    sides = (comparison.reference, comparison.candidate)
    output.table(
        ("", "reference", "candidate"),
        (
            ("model", *(side.name for side in sides)),
            ("type", *(side.file_type for side in sides)),
            ("GiB", *(f"{side.bytes / 2**30:.2f}" for side in sides)),
            ("vision s", *(f"{side.vision_s:.2f}" for side in sides)),
            ("prefill s", *(f"{side.prefill_s:.2f}" for side in sides)),
            ("F1 of yes", *("-" if side.f1 is None else f"{side.f1:.3f}" for side in sides)),
        ),
    )
    output.text(
        f"\nKL(reference || candidate) over {divergence.positions} positions of "
        f"{comparison.samples} answers: mean {divergence.mean_kl:.5f}, "
        f"99 % below {divergence.kl_99:.5f}\n"
        f"same likeliest token: {divergence.top1:.1%}"
    )
    if comparison.p_yes_shift is not None:
        output.text(f"p_yes moves by {comparison.p_yes_shift:.4f} on average")
