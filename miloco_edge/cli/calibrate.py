"""`miloco-edge calibrate`: an imatrix from clips, for the text model and the mmproj."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from miloco_edge.cli.options import FILE, json_option, load_options, visual_tokens_option
from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar
from miloco_edge.engine.engine import LoadOptions
from quantize.calibration import Showing, calibrate, state_path

USUAL = Showing()


@click.command("calibrate")
@click.argument("model")
@click.option(
    "--clips",
    type=click.Path(path_type=Path),
    metavar="DIR|MANIFEST",
    help="A folder of videos and pictures, or a JSONL manifest of clips with questions.",
)
@click.option(
    "--out",
    type=FILE,
    metavar="FILE.gguf",
    required=True,
    help="The imatrix; what it is made from is kept in FILE.gguf.state.npz.",
)
@click.option(
    "--visual-weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="How much the mean of visual tokens counts against the mean of text tokens.",
)
@click.option(
    "--merge",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Add another run of the same model: its imatrix or its state; repeatable.",
)
@click.option("--restart", is_flag=True, help="Forget what an earlier run has kept.")
@click.option("--limit", type=click.IntRange(min=1), help="Take so many clips, the first ones.")
@visual_tokens_option(USUAL.visual_tokens, "Most visual tokens of a clip.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=USUAL.answer_tokens,
    show_default=True,
    help="Longest answer of the model's own.",
)
@click.option(
    "--think-tokens",
    type=click.IntRange(min=0),
    default=USUAL.thinking_tokens,
    show_default=True,
    help="Longest thought before it.",
)
@click.option(
    "--process-output",
    is_flag=True,
    help="Include the weights that make logits; llama-imatrix leaves them out, too.",
)
@click.option(
    "--save-every",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Keep what was seen after so many clips.",
)
@load_options
@json_option
def calibrate_command(
    output: Output,
    *,
    model: str,
    clips: Path | None,
    out: Path,
    visual_weight: float,
    merge: tuple[Path, ...],
    restart: bool,
    limit: int | None,
    visual_tokens: int,
    max_tokens: int,
    think_tokens: int,
    process_output: bool,
    save_every: int,
    load: LoadOptions,
) -> None:
    """Write the importance matrix of MODEL from clips with questions.

    It covers the language model and the vision tower, and both miloco-edge quantize and
    llama-quantize read it. A run that was stopped goes on where it was. Without --clips, or with
    nothing new in it, the imatrix is mixed anew without running the model.
    """
    try:
        with progress_bar(output, "calibrating") as on_progress:
            done = calibrate(
                model,
                out,
                clips=clips,
                merge=merge,
                visual_weight=visual_weight,
                showing=Showing(visual_tokens, max_tokens, think_tokens),
                limit=limit,
                outputs=process_output,
                restart=restart,
                save_every=save_every,
                progress=on_progress,
                **load,
            )
    except KeyboardInterrupt:
        if state_path(out).exists():
            output.note(f"what was seen is kept in {state_path(out)}: run it again to go on")
        raise
    if output.as_json:
        output.data(
            {
                "out": str(done.out),
                "state": str(done.state),
                "model": asdict(done.model),
                "clips": {"seen": done.seen, "held": done.held, "skipped": dict(done.skipped)},
                "rows": dict(done.rows),
                "tensors": done.tensors,
                "visual_weight": done.visual_weight,
                "seconds": done.seconds,
            }
        )
        return
    output.table(
        ("clips", "skipped", "text rows", "visual rows", "patch rows", "tensors"),
        [
            [
                str(number)
                for number in (
                    done.seen + done.held, len(done.skipped), *done.rows.values(), done.tensors,
                )
            ]
        ],
    )  # fmt: skip
    known = f", {done.held} of the clips were seen before" if done.held else ""
    output.note(f"written to {done.out} in {done.seconds:.1f} s{known}")
