"""`miloco-edge quantize`: a checkpoint in Hugging Face layout becomes a GGUF pair."""

from __future__ import annotations

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
from quantize import quantize
from quantize.pipeline import DEFAULT_MMPROJ_TYPE
from quantize.recipes import RECIPES
from quantize.stream import Progress as OnProgress

NAMES = ", ".join(RECIPES)


@click.command("quantize")
@click.argument("checkpoint")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder for the files; the current one if absent.",
)
@click.option("--recipe", default="q4_0", show_default=True, help=f"One of {NAMES}.")
@click.option("--mmproj-type", help=f"The vision tower's: one of {NAMES}; bf16 if absent.")
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
    threads: int | None,
    dry_run: bool,
) -> None:
    """Make a GGUF pair of CHECKPOINT, a folder in Hugging Face layout or org/repo."""
    folder = _folder(checkpoint)
    with _progress(output) as on_progress:
        manifest = quantize(
            folder, out, recipe=recipe, mmproj_type=mmproj_type, threads=threads, dry_run=dry_run,
            progress=on_progress,
        )  # fmt: skip
    if output.as_json:
        output.data(manifest.to_json())
        return
    types = (recipe, mmproj_type or DEFAULT_MMPROJ_TYPE)
    output.table(
        ("file", "size", "bits per weight", "type"),
        (
            (file.file, f"{file.bytes / 2**30:.3f} GiB", f"{file.bpw:.2f}", type)
            for file, type in zip(manifest.outputs, types, strict=True)
        ),
    )
    if dry_run:
        output.note("nothing was written (--dry-run)")
    else:
        output.note(f"written to {out} in {manifest.seconds:.1f} s")


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
