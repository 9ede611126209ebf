"""`miloco-edge bench`: how long a window takes here, and what this machine holds."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from miloco_edge import Clip, Engine
from miloco_edge.cli.options import (
    FILE,
    SECONDS,
    json_option,
    load_options,
    visual_tokens_option,
)
from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.measure.bench import Document, Plan, idle_power, measure
from miloco_edge.measure.capacity import measure_capacity
from miloco_edge.measure.difference import TEST, compare, read_result
from miloco_edge.measure.energy import find_meter
from miloco_edge.measure.facts import facts_of
from miloco_edge.measure.film import CODEC, write_film
from miloco_edge.measure.plots import draw_breakdown, draw_capacity, draw_roofline
from miloco_edge.measure.report import (
    capacity_table,
    difference_table,
    machine_line,
    markdown,
    read_roofline,
    roofline_table,
    stage_table,
    summary_lines,
    trial_lines,
)
from miloco_edge.measure.roofline import under_roof
from miloco_edge.measure.shapes import SHAPES, read_shape
from miloco_edge.measure.stages import QUESTION, RULES, Workload
from miloco_edge.measure.synthetic import write_pair
from miloco_edge.registry import read_header
from miloco_edge.registry.verify import sha256_of


class _Bench(click.Command):
    """`bench [MODEL]`, and `bench diff A B` beside it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        """Give way to `diff` where it is the first word."""
        if args[:1] == ["diff"]:
            tables = parent.default_map if parent is not None else None
            extra["default_map"] = (tables or {}).get("bench", {}).get("diff")
            return diff_command.make_context(f"{info_name} diff", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    @property
    def commands(self) -> dict[str, click.Command]:
        """As a group's."""
        return {"diff": diff_command}

    def invoke(self, ctx: click.Context) -> Any:
        """Run what the context was made for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command("bench", cls=_Bench)
@click.argument("model", required=False)
@click.option(
    "--shape",
    metavar="NAME|config.json",
    help="Measure random weights of this shape, where the real ones are not here: "
    f"{', '.join(SHAPES)}, or that of a checkpoint's config.json.",
)
@click.option("--clip", type=FILE, help="A film to look at; a drawn one by default.")
@click.option("--frames", type=click.IntRange(min=1), default=6, show_default=True)
@visual_tokens_option(None, "Most of a window.")
@click.option("--ask", "question", default=QUESTION, show_default=True, help='"" for none.')
@click.option("--rule", "rules", multiple=True, default=RULES, help="Repeatable.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--windows", "-n", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--interval",
    type=SECONDS,
    metavar="SECONDS",
    help="A window comes every so often, as from a camera; else each after the one before it.",
)
@click.option("--deadline", type=SECONDS, metavar="SECONDS", help="Of a window, from its capture.")
@click.option("--capacity", is_flag=True, help="How many cameras and rules this machine holds.")
@click.option("--roofline", is_flag=True, help="How near it comes to what this machine can do.")
@click.option(
    "--idle",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Measure the power at rest for so long, where there is a sensor.",
)
@click.option("--out", type=FILE, metavar="FILE.json", help="All of it, with the raw samples.")
@click.option("--markdown", "page", type=FILE, metavar="FILE.md", help="The figures as a page.")
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Pictures: breakdown.png, capacity.png, roofline.png.",
)
@load_options
@json_option
def bench_command(
    output: Output,
    *,
    model: str | None,
    shape: str | None,
    load: LoadOptions,
    out: Path | None,
    page: Path | None,
    plots: Path | None,
    capacity: bool,
    roofline: bool,
    **options: Any,
) -> None:
    """Measure MODEL on this machine: every stage of a window, cold and warm.

    `bench diff A.json B.json` compares two results and tells a regression from noise.
    """
    if model is not None and shape is not None:
        raise click.UsageError("expected MODEL or --shape, got both")
    if capacity and options["deadline"] is None:
        raise click.UsageError("--capacity needs --deadline: what is held is held within one")
    for path in (out, page):
        if path is not None and not path.parent.is_dir():  # said now, not after the run
            raise click.UsageError(f"expected a folder {path.parent}, found none")
    with tempfile.TemporaryDirectory(prefix="miloco-edge-bench-") as scratch:
        ref = _pair(output, shape, Path(scratch)) if shape is not None else model
        read, film = _reader(options["clip"], options["frames"], Path(scratch))
        with Engine.load(ref, **load) as engine:
            if options["deadline"] is not None:
                engine.rates()  # what deadlines are planned by, known before the first
            document = _measure(output, engine, shape, read, film, roofline, options)
            if capacity:
                with progress_bar(output, "capacity") as progress:
                    held = measure_capacity(
                        engine, _workload(read, options), options["deadline"],
                        windows=options["windows"], progress=progress,
                    )  # fmt: skip
                document["capacity"] = asdict(held)
    pictures = {"breakdown": draw_breakdown(document)}
    if roofline:
        machine, points = read_roofline(document["roofline"])
        pictures["roofline"] = draw_roofline(machine, points)
    if capacity:
        pictures["capacity"] = draw_capacity(held)
    if out is not None:
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        out.write_text(text, "utf-8", "backslashreplace")  # a path need not be in UTF-8
    if page is not None:
        page.write_text(markdown(document), "utf-8", "backslashreplace")
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            picture.save(plots / f"{name}.png")
    if output.as_json:
        output.data(document)
        return
    output.table(*stage_table(document))
    output.text("\n" + "\n".join(summary_lines(document)))
    if roofline:
        output.text("\n" + machine_line(machine))
        output.table(*roofline_table(points))
    if capacity:
        output.text("\ncameras held")
        output.table(*capacity_table(held))
        output.text("\n".join(trial_lines(held)))


@click.command("diff")
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--check", is_flag=True, help="Exit with 1 where a stage is slower.")
@json_option
def diff_command(output: Output, *, before: Path, after: Path, check: bool) -> None:
    """Tell whether AFTER.json is slower than BEFORE.json, or whether that is noise."""
    difference = compare(read_result(before), read_result(after))
    if output.as_json:
        output.data({**asdict(difference), "regressed": difference.regressed, "test": TEST})
    else:
        output.table(*difference_table(difference))
        for unlike in difference.unlike:
            output.note(f"note: not the same in both: {unlike}")
        if not difference.same_answers:
            output.note("note: the answers are not the same")
        output.note(TEST, dim=True)
    if check and difference.regressed:
        click.get_current_context().exit(1)


def _pair(output: Output, shape: str, scratch: Path) -> Path:
    """A random pair of the shape."""
    sizes = SHAPES.get(shape) or read_shape(Path(shape))
    with progress_bar(output, "writing random weights", in_bytes=True) as progress:
        return write_pair(scratch / "pair", sizes, progress=progress)


def _reader(
    clip: Path | None, frames: int, scratch: Path
) -> tuple[Callable[[], Clip], dict[str, Any]]:
    """What reads a window, and how the film is described."""
    film = clip if clip is not None else write_film(scratch / "film.mp4")
    first = Clip.from_file(film, frames=frames)
    described = {
        "film": "drawn" if clip is None else clip.name,
        "codec": CODEC if clip is None else None,
        "film_sha256": sha256_of(film),
        "frames": len(first.frames),
        "size": list(first.frames[0].size),
    }
    return lambda: Clip.from_file(film, frames=frames), described


def _workload(read: Callable[[], Clip], options: Mapping[str, Any]) -> Workload:
    return Workload(
        read,
        question=options["question"] or None,
        rules=tuple(rule for rule in options["rules"] if rule),
        answer_tokens=options["max_tokens"],
        visual_tokens=options["visual_tokens"],
        deadline_s=options["deadline"],
    )


def _measure(
    output: Output,
    engine: Engine,
    shape: str | None,
    read: Callable[[], Clip],
    film: Mapping[str, Any],
    roofline: bool,
    options: Mapping[str, Any],
) -> Document:
    """Measure the windows and, where it is asked for, the machine."""
    files = engine.files
    text, mmproj = read_header(files.text), read_header(files.mmproj)
    facts = facts_of(text, mmproj)
    threads, profile = engine.settings.threads, engine.settings.profile
    meter, sensor = find_meter()
    with (
        nullcontext() if meter is None else closing(meter),
        progress_bar(output, "windows") as progress,
    ):
        idle = idle_power(meter, options["idle"], time.sleep) if meter and options["idle"] else None
        document = measure(
            engine,
            _workload(read, options),
            Plan(options["windows"], options["interval"]),
            model={
                "name": files.name if shape is None else f"random {shape}",
                "path": str(files.text),
                "mmproj": str(files.mmproj),
                "file_type": files.file_type,
                "sha256": files.sha256 or sha256_of(files.text),
                "mmproj_sha256": files.mmproj_sha256 or sha256_of(files.mmproj),
            },
            config={
                **asdict(engine.settings),
                "economy": asdict(engine.economy),
                "profile": profile and str(profile),
                **film,
            },
            facts=facts,
            meter=meter,
            no_meter=None if meter else sensor,
            idle_watts=idle,
            progress=progress,
        )
    document["roofline"] = document["capacity"] = None
    if roofline:
        document["roofline"] = under_roof(document, facts, threads)
    return document
