"""`miloco-edge tune`: find how a model is best loaded on this machine, and keep it."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from miloco_edge import Clip, Engine
from miloco_edge.cli.options import json_option, offline_option
from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar
from miloco_edge.engine.gauge import shown
from miloco_edge.engine.profile import Choice, Profile, profile_path, this_machine, write_profile
from miloco_edge.errors import MilocoEdgeError
from miloco_edge.llama.offload import gpu_backend
from miloco_edge.measure.film import write_film
from miloco_edge.measure.host import describe_host
from miloco_edge.measure.stages import Workload, measure_window
from miloco_edge.measure.tune import Options, settings_for, tune
from miloco_edge.registry import GGUFHeader, ModelFiles, check_pair, read_header, resolve
from miloco_edge.registry.choice import is_mmproj


@click.command("tune")
@click.argument("model")
@click.option(
    "--windows",
    "-n",
    type=click.IntRange(min=3),
    default=5,
    show_default=True,
    help="Windows measured for each setting.",
)
@click.option("--frames", type=click.IntRange(min=1), default=6, show_default=True)
@click.option("--visual-tokens", type=click.IntRange(min=4), help="Most of a window.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Write the profile there instead of where this machine's profiles are kept.",
)
@click.option(
    "--mmproj",
    type=click.Path(path_type=Path),
    help="The vision encoder, where it is not beside the model.",
)
@offline_option
@json_option
def tune_command(
    output: Output,
    *,
    model: str,
    windows: int,
    frames: int,
    visual_tokens: int | None,
    max_tokens: int,
    out: Path | None,
    mmproj: Path | None,
    offline: bool,
) -> None:
    """Measure MODEL under several settings for some minutes, and write this machine's profile.

    A setting is changed only where the change is shown to be quicker. Leave the machine alone
    meanwhile.
    """
    files = resolve(model, mmproj=mmproj, offline=offline)
    text = read_header(files.text)
    check_pair(text, read_header(files.mmproj))
    host = describe_host()
    machine = this_machine(files.text)
    layers = int(text.metadata["qwen2vl.block_count"]) + 1
    settings = settings_for(
        host.physical_cores,
        host.logical_cores,
        gpu_layers=layers if gpu_backend() is not None else None,
        mmprojs=[] if mmproj else other_encoders(files, text),
    )

    def load(options: Options) -> Engine:
        given: dict[str, Any] = {"mmproj": mmproj, **options}
        return Engine.load(model, offline=offline, profile=False, **given)

    with tempfile.TemporaryDirectory(prefix="miloco-edge-tune-") as scratch:
        film = write_film(Path(scratch) / "film.mp4")
        workload = Workload(
            lambda: Clip.from_file(film, frames=frames),
            visual_tokens=visual_tokens,
            answer_tokens=max_tokens,
        )
        with progress_bar(output, "tuning") as progress:
            profile = tune(
                load,
                lambda engine, number: measure_window(engine, workload, number),
                settings,
                machine,
                windows=windows,
                progress=progress,
            )
    path = out or profile_path(machine)
    write_profile(profile, path)
    _show(output, profile, path)


def other_encoders(files: ModelFiles, text: GGUFHeader) -> list[str]:
    """The vision encoders beside a model that fit it, but for the one it takes by default."""
    found = []
    for path in sorted(files.text.parent.glob("*.gguf")):
        if is_mmproj(path.name) and path != files.mmproj:
            try:
                check_pair(text, read_header(path))
            except MilocoEdgeError:
                continue  # another model's
            found.append(str(path))
    return found


def _show(output: Output, profile: Profile, path: Path) -> None:
    if output.as_json:
        output.data({"profile": str(path), **asdict(profile)})
        return
    output.table(
        ("setting", "value", "median s", ""),
        (row for choice in profile.choices for row in _rows(choice)),
    )
    for choice in profile.choices:
        output.text(f"{choice.setting}: {choice.why}")
    output.table(("stage", "of", "rate"), shown(profile.figures))
    output.note(f"written to {path}")


def _rows(choice: Choice) -> list[tuple[str, str, str, str]]:
    return [
        (
            choice.setting,
            _shown(each.value),
            f"{statistics.median(each.seconds):.3f}" if each.seconds else "not to be had",
            "chosen" if each.value == choice.chosen else "",
        )
        for each in choice.tried
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "default"
    return Path(value).name if isinstance(value, str) else str(value)
