"""`miloco-edge eval calibrate`: make p_yes mean how often yes is right."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from miloco_edge import Engine
from miloco_edge.cli.options import (
    FILE,
    json_option,
    language_option,
    limit_option,
    load_options,
    model_option,
    smart_home_option,
    visual_tokens_option,
)
from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar
from miloco_edge.engine.engine import VISUAL_TOKENS, LoadOptions
from miloco_edge.evaluate.calibration import Quality, collect_odds, fit_calibration
from miloco_edge.evaluate.manifest import read_manifest
from miloco_edge.evaluate.run import Settings
from miloco_edge.registry import write_calibration


@click.command("calibrate")
@model_option
@click.option(
    "--manifest",
    type=FILE,
    metavar="FILE.jsonl",
    required=True,
    help="Questions with their answers; the binary ones are used.",
)
@limit_option
@visual_tokens_option(VISUAL_TOKENS, "Most visual tokens for a clip.")
@smart_home_option
@language_option
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@load_options
@json_option
def calibrate_yes_command(
    output: Output,
    *,
    model: str | None,
    manifest: Path,
    limit: int | None,
    visual_tokens: int,
    smart_home: bool,
    language: str,
    dry_run: bool,
    load: LoadOptions,
) -> None:
    """Fit p_yes to questions whose answers are known, and write that beside the model.

    It goes into the model's manifest, where every command finds it. Calibrate on clips that the
    model was not trained on, and in the mode that it is used in.
    """
    items = read_manifest(manifest, limit)
    settings = Settings(visual_tokens=visual_tokens, smart_home=smart_home, language=language)
    with Engine.load(model, **load) as engine, progress_bar(output, "deciding") as progress:
        odds = collect_odds(engine, items, settings, progress)
        files = engine.files
    try:
        fit = fit_calibration(odds)
    except ValueError as error:
        raise click.UsageError(f"{manifest}: {error}") from error
    written = None if dry_run else write_calibration(files, fit.calibration, fit.samples)
    if output.as_json:
        output.data(
            {
                "p_yes": asdict(fit.calibration),
                "samples": fit.samples,
                "positives": fit.positives,
                "left_out": odds.left_out,
                "before": asdict(fit.before),
                "after": asdict(fit.after),
                "written": None if written is None else str(written),
            }
        )
        return
    output.text(f"[p_yes]\na = {fit.calibration.a:.4f}\nb = {fit.calibration.b:.4f}")
    output.note(
        f"{fit.samples} questions, {fit.positives} of them yes, {odds.left_out} left out\n"
        f"before: {_shown(fit.before)}\nafter, on clips it was not fitted to: {_shown(fit.after)}"
    )
    output.note("nothing was written" if written is None else f"written to {written}")


def _shown(quality: Quality) -> str:
    brier, ece = (
        "-" if value is None else f"{value:.3f}" for value in (quality.brier, quality.ece)
    )
    return f"Brier {brier}, calibration error {ece}"
