"""`miloco-edge quantize`: a checkpoint in Hugging Face layout becomes a GGUF pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from miloco_edge.cli.options import json_option
from miloco_edge.cli.output import Output
from miloco_edge.errors import MilocoEdgeError
from miloco_edge.registry import cache, hub
from miloco_edge.registry.reference import parse
from miloco_edge.registry.resolve import resolve_checkpoint
from quantize import Manifest, quantize
from quantize.recipes import NAMES
from quantize.stream import Progress as OnProgress


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
@click.option("--threads", type=click.IntRange(min=1), help="As many as there are cores if absent.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be written and how large it would be."
)
@json_option
def quantize_command(
    output: Output,
    checkpoint: str,
    out: Path,
    recipe: str,
    mmproj_type: str | None,
    imatrix: Path | None,
    threads: int | None,
    dry_run: bool,
) -> None:
    """Make a GGUF pair of CHECKPOINT, a folder in Hugging Face layout or org/repo."""
    folder = _folder(checkpoint)
    with _progress(output) as on_progress:
        manifest = quantize(
            folder, out, recipe=recipe, mmproj_type=mmproj_type, imatrix=imatrix, threads=threads,
            dry_run=dry_run, progress=on_progress,
        )  # fmt: skip
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


def _folder(checkpoint: str) -> Path:
    """The checkpoint's folder; a repository is fetched first where it has not been pulled."""
    reference = parse(checkpoint)
    if reference.repo is not None and not hub.is_offline() and not cache.snapshot(reference.repo):
        remote = hub.describe(reference)
        licence = hub.terms(reference, remote)
        if licence.accept and not hub.was_accepted(remote, licence):
            raise MilocoEdgeError(
                f"expected the licence {licence.id} of {reference.repo} to be accepted, got none",
                hint=f"run `miloco-edge pull {checkpoint}` first",
            )
        hub.fetch(reference, remote, hub.choose(reference, remote), licence)
    return resolve_checkpoint(checkpoint, offline=hub.is_offline())


@contextmanager
def _progress(output: Output) -> Iterator[OnProgress | None]:
    """A bar with rate and time left, on a terminal."""
    if not output.progress_wanted():
        yield None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("quantize", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
