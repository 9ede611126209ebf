"""`miloco-edge quantize`: a checkpoint in Hugging Face layout becomes a GGUF pair."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click
from click.core import ParameterSource
from huggingface_hub.utils.tqdm import disable_progress_bars

from miloco_edge.cli.options import json_option, offline_option
from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar
from miloco_edge.errors import MilocoEdgeError
from miloco_edge.registry import cache, hub
from miloco_edge.registry.reference import parse
from miloco_edge.registry.resolve import resolve_checkpoint
from quantize import Manifest, quantize
from quantize.budget import parse_size
from quantize.devices import ANY, CANDIDATES, DEVICES, Device, Speed, measured
from quantize.errors import RecipeError
from quantize.fit_report import FitReport
from quantize.recipes import NAMES


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parse_size(value)
        except RecipeError as error:
            raise click.BadParameter(str(error), ctx, param) from error
    return value


@click.command("quantize")
@click.argument("checkpoint")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder for the files; the current one if absent.",
)
@click.option(
    "--recipe",
    default="q4_0",
    show_default=True,
    metavar="NAME|FILE.toml",
    help=f"One of {', '.join(NAMES)}, or a file of rules.",
)
@click.option(
    "--mmproj-type",
    metavar="NAME|FILE.toml",
    help="The vision tower's recipe, if not the one that goes with --recipe: bf16 with "
    "llama-quantize's mixtures, its own with the others.",
)
@click.option(
    "--imatrix",
    type=click.Path(dir_okay=False, path_type=Path),
    help="How much each input of each weight matters (`miloco-edge calibrate`).",
)
@click.option(
    "--budget",
    metavar="SIZE",
    callback=_size,
    help="Choose the types, instead of a recipe, so that both files together take no more: "
    "4.5GiB, 4500MB.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", *DEVICES]),
    help="What a budget's types must be fast on; auto, the default, measures this machine.",
)
@click.option(
    "--sensitivity",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A JSON file of how much more than others some weights matter to a budget.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw what a budget gave up where into this PNG.",
)
@click.option("--threads", type=click.IntRange(min=1), help="As many as there are cores if absent.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be written and how large it would be."
)
@offline_option
@json_option
def quantize_command(
    output: Output,
    checkpoint: str,
    out: Path,
    recipe: str,
    mmproj_type: str | None,
    imatrix: Path | None,
    budget: str | None,
    device: str | None,
    sensitivity: Path | None,
    plot: Path | None,
    threads: int | None,
    dry_run: bool,
    offline: bool,
) -> None:
    """Make a GGUF pair of CHECKPOINT: a Hugging Face folder, an alias or org/repo."""
    _check_options(budget, device, sensitivity, plot)
    folder = _folder(output, checkpoint, offline=offline or hub.is_offline())
    with progress_bar(output, "quantize", in_bytes=True) as on_progress:
        manifest = quantize(
            folder, out, recipe=recipe, mmproj_type=mmproj_type, imatrix=imatrix, budget=budget,
            device=_device(device or "auto") if budget else ANY, sensitivity=sensitivity,
            threads=threads, dry_run=dry_run, progress=on_progress,
        )  # fmt: skip
    if manifest.fit and plot:
        from quantize.plot import draw  # not on top: nothing else here needs Pillow

        draw(manifest.fit, manifest.tensors).save(plot, "PNG")
    if output.as_json:
        output.data(manifest.to_json())
        return
    output.table(
        ("file", "size", "bits per weight", "weights"),
        (
            (file.file, f"{file.bytes / 2**30:.3f} GiB", f"{file.bpw:.2f}", types)
            for file, types in zip(manifest.outputs, _types(manifest), strict=True)
        ),
    )
    if manifest.fit:
        _show_fit(output, manifest.fit)
    if dry_run:
        output.note("nothing was written (--dry-run)")
    else:
        output.note(f"written to {out} in {manifest.seconds:.1f} s")


def _types(manifest: Manifest) -> tuple[str, str]:
    """How many weights of either file have which type, the most frequent first."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for tensor in manifest.tensors:
        if len(tensor.shape) == 2:
            counts[tensor.name.startswith(("v.", "mm."))][tensor.type] += 1
    text, mmproj = (", ".join(f"{n} {type}" for type, n in c.most_common()) for c in counts)
    return text, mmproj


def _check_options(
    budget: str | None, device: str | None, sensitivity: Path | None, plot: Path | None
) -> None:
    """Raise UsageError for options that do not go together."""
    recipe_from = click.get_current_context().get_parameter_source("recipe")
    if budget and recipe_from is ParameterSource.COMMANDLINE:  # one that is configured gives way
        raise click.UsageError("--budget chooses the types itself: leave out --recipe")
    for name, value in (("device", device), ("sensitivity", sensitivity), ("plot", plot)):
        if value is not None and not budget:
            raise click.UsageError(f"--{name} needs a --budget")
    if plot and not plot.parent.is_dir():  # said now, not after the pass
        raise click.UsageError(f"--plot: expected a folder {plot.parent}, found none")


def _device(name: str) -> Device:
    """The device of that name; "auto" is this machine, by its GPU or its CPU's measured kernels.

    Weights of the language model are repacked where loading them does so (llama.model), those of
    the mmproj never.
    """
    if name != "auto":
        return DEVICES[name]
    # Not on top: the library takes half a second to load.
    from miloco_edge.llama import kernels
    from miloco_edge.llama.model import plan_weights
    from miloco_edge.llama.offload import gpu_backend

    if (gpu := gpu_backend()) in DEVICES:
        return DEVICES[gpu]
    types = [type.name for type in CANDIDATES]

    def speeds(*, repack: bool) -> Mapping[str, Speed]:
        found = kernels.kernel_speeds(types, repack=repack)
        return {type: Speed(speed.prefill, speed.decode) for type, speed in found.items()}

    mapped = speeds(repack=False)
    is_repacked = plan_weights("Q4_K_M", platform.machine(), 0).repack
    text = speeds(repack=True) if is_repacked else mapped
    return measured("auto", {"text": text, "mmproj": mapped})


def _show_fit(output: Output, fit: FitReport) -> None:
    """What was chosen, what it gave up where, and what was refused."""
    output.text("")
    output.table(
        ("weights", "types", "MiB", "expected loss", "one type larger", "loss then"),
        (
            (
                group.weights.removesuffix(".weight"),
                ", ".join(f"{n} {type}" for type, n in group.types.items()),
                f"{group.bytes / 2**20:.1f}",
                f"{group.loss:.3e}",
                f"+{group.next_bytes / 2**20:.1f} MiB",
                f"{group.next_loss:.3e}",
            )
            for group in fit.groups
        ),
    )
    output.text(
        f"\n{fit.spent} of {fit.budget} bytes; expected loss {fit.loss:.4g}, "
        + ("the least possible" if fit.gap == 0 else f"at most {fit.gap:.2g} above the least")
    )
    for file in ("text", "mmproj"):
        refused = [each for each in fit.refused if each.file == file]
        if refused:
            names = "; ".join(f"{each.type} ({each.reason})" for each in refused)
            output.note(f"refused for {file} on {fit.device}: {names}")


def _folder(output: Output, checkpoint: str, *, offline: bool) -> Path:
    """The checkpoint's folder; a repository is fetched first where it has not been pulled."""
    reference = parse(checkpoint)
    if reference.repo is not None and not offline and not cache.snapshot(reference.repo):
        remote = hub.describe(reference)
        licence = hub.terms(reference, remote)
        if licence.accept and not hub.was_accepted(remote, licence):
            raise MilocoEdgeError(
                f"expected the licence {licence.id} of {reference.repo} to be accepted, got none",
                hint=f"run `miloco-edge pull {checkpoint}` first",
            )
        if not output.progress_wanted():
            disable_progress_bars()
        hub.fetch(reference, remote, hub.choose(reference, remote), licence)
    return resolve_checkpoint(checkpoint, offline=offline)
