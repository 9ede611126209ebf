"""`miloco-edge eval`: a model's answers to questions whose answers are known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from miloco_edge import Engine
from miloco_edge.cli.eval_calibrate import calibrate_yes_command
from miloco_edge.cli.options import (
    FILE,
    answer_options,
    json_option,
    limit_option,
    load_options,
    model_option,
)
from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.evaluate.convert import CONVERTERS, convert
from miloco_edge.evaluate.journal import Journal
from miloco_edge.evaluate.manifest import Item, read_manifest
from miloco_edge.evaluate.report import headlines, markdown
from miloco_edge.evaluate.run import Settings, ask_all
from miloco_edge.evaluate.score import score
from miloco_edge.evaluate.scores import Scores
from miloco_edge.registry import ModelFiles
from miloco_edge.registry.cards import ScoreTable, load_cards

_PUBLISHED = "miloco-7b"


@click.group("eval", invoke_without_command=True)
@model_option
@click.option("--manifest", type=FILE, metavar="FILE.jsonl", help="The questions.")
@limit_option
@click.option(
    "--out",
    type=FILE,
    metavar="FILE.json",
    help="The scores. Answers are kept in FILE.journal.jsonl: a run that was stopped goes on.",
)
@click.option("--markdown", "page", type=FILE, metavar="FILE.md", help="The scores as a page.")
@answer_options(
    deadline="Answer each question within so many seconds, the look at its clip included.",
    max_tokens=Settings.max_tokens,
    temperature=Settings.temperature,
    top_p=Settings.top_p,
)
@load_options
@json_option
def eval_command(
    output: Output,
    *,
    model: str | None,
    manifest: Path | None,
    limit: int | None,
    out: Path | None,
    page: Path | None,
    load: LoadOptions,
    **options: Any,
) -> None:
    """Ask a model the questions of a manifest, and measure how good its answers are."""
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        for option in context.command.params:
            if context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"expected {option.opts[0]} after {context.invoked_subcommand}, got it before"
                )
        return
    if manifest is None:
        raise click.UsageError("expected --manifest FILE.jsonl, got none")
    for path in (out, page):
        if path is not None and not path.parent.is_dir():  # said now, not after the run
            raise click.UsageError(f"expected a folder {path.parent}, found none")
    items = read_manifest(manifest, limit)
    settings = Settings(**options)
    path = None if out is None else journal_path(out)
    with Journal(path) as journal, Engine.load(model, **load) as engine:
        try:
            with progress_bar(output, "evaluating") as progress:
                replies = ask_all(engine, items, settings, journal, progress)
        except KeyboardInterrupt:
            output.note(
                "no answer is kept: give --out to be able to go on"
                if path is None
                else f"the answers so far are kept in {path}: run it again to go on"
            )
            raise
        files = engine.files
    scores = score(items, replies, think=settings.think)
    for id, why in scores.refused.items():
        output.note(f"{id}: {why}")
    published = _published()
    if page is not None:
        name = f"{files.name} ({files.file_type})"
        text = markdown(name, manifest.name, items, settings, scores, published)
        page.write_text(text, "utf-8", "backslashreplace")  # a path need not be in UTF-8
    if out is not None or output.as_json:
        document = _document(files, manifest, items, settings, scores, published)
        if out is not None:
            text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
            out.write_text(text, "utf-8", "backslashreplace")
        if output.as_json:
            output.data(document)
            return
    _show(output, scores)


@eval_command.command("convert")
@click.argument("name", type=click.Choice(list(CONVERTERS)))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("out", type=FILE, metavar="OUT.jsonl")
@json_option
def convert_command(output: Output, name: str, folder: Path, out: Path) -> None:
    """Write the manifest of a data set that lies in FOLDER.

    Media stay where they are: the manifest names them relative to itself.
    """
    if not out.parent.is_dir():
        raise click.UsageError(f"expected a folder {out.parent}, found none")
    done = convert(name, folder, out)
    if output.as_json:
        output.data({"out": str(done.path), "items": done.items, "skipped": dict(done.skipped)})
        return
    output.text(str(done.path))
    left = "".join(f"; {count} left out: {why}" for why, count in done.skipped.items())
    output.note(f"{done.items} questions{left}")


eval_command.add_command(calibrate_yes_command)


def journal_path(out: Path) -> Path:
    """Where the answers behind a result are kept."""
    return out.with_name(f"{out.stem}.journal.jsonl")


def _published() -> tuple[ScoreTable, ...]:
    return load_cards()[_PUBLISHED].scores


def _document(
    files: ModelFiles,
    manifest: Path,
    items: list[Item],
    settings: Settings,
    scores: Scores,
    published: tuple[ScoreTable, ...],
) -> dict[str, Any]:
    return {
        "model": {
            "name": files.name,
            "path": str(files.text),
            "mmproj": str(files.mmproj),
            "file_type": files.file_type,
            "sha256": files.sha256,
            "bytes": files.text.stat().st_size + files.mmproj.stat().st_size,
        },
        "manifest": {
            "path": str(manifest),
            "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
            "items": len(items),
        },
        "settings": asdict(settings),
        "scores": asdict(scores),
        "published": [asdict(table) for table in published],
    }


def _show(output: Output, scores: Scores) -> None:
    output.table(
        ("task", "measure", "%", "95 %", "questions", "unread"),
        (
            (
                h.task,
                h.measure,
                "-" if h.estimate.value is None else f"{100 * h.estimate.value:.1f}",
                "-"
                if h.estimate.low is None or h.estimate.high is None
                else f"{100 * h.estimate.low:.1f} - {100 * h.estimate.high:.1f}",
                str(h.n),
                str(h.unread),
            )
            for h in headlines(scores)
        ),
    )
    if scores.answers is not None and len(scores.answers.categories) > 1:
        output.text("")
        output.table(
            ("category", "n", "yes", "F1", "F1 by p_yes"),
            (
                (name, str(one.n), str(one.positives), _f1(one.f1.value), _decided(scores, name))
                for name, one in scores.answers.categories.items()
            ),
        )


def _decided(scores: Scores, name: str) -> str:
    return _f1(scores.decisions.categories[name].f1.value) if scores.decisions else "-"


def _f1(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
