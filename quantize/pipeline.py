"""The door: a checkpoint in, a GGUF pair and its manifest out."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from quantize import manifest
from quantize.budget import parse_size
from quantize.checkpoint import Checkpoint, open_checkpoint
from quantize.codec import Type
from quantize.container import Placed
from quantize.devices import ANY, Device
from quantize.fit import Target, fit
from quantize.fit_report import FitReport
from quantize.manifest import ImatrixReport, Manifest, OutputFile, Source, TensorReport
from quantize.outputs import GGUFOutput, check_space, publish, write_text
from quantize.plan import Plan, survey
from quantize.recipes import find_mmproj_recipe, find_recipe
from quantize.safetensors import Stored
from quantize.stream import Destination, Error, Passed, Progress, stream

logger = logging.getLogger("miloco_edge.quantize")


def quantize(
    checkpoint: Path,
    out: Path,
    *,
    recipe: str = "q4_0",
    mmproj_type: str | None = None,
    imatrix: Path | None = None,
    budget: str | None = None,
    device: Device = ANY,
    sensitivity: Path | None = None,
    threads: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Convert the checkpoint in the folder `checkpoint` to a GGUF pair in the folder `out`.

    Writes NAME-RECIPE.gguf, mmproj-NAME-TYPE.gguf and NAME-RECIPE.manifest.json, where NAME is the
    checkpoint's folder (or its repository, in the hub's cache): all three, or nothing. The bytes
    are those of llama.cpp's converter and llama-quantize for the same types and `imatrix`, which
    guides both files where it names their weights. `recipe` and `mmproj_type` are names
    (quantize.recipes.NAMES) or .toml files; without `mmproj_type`, a mixture of llama-quantize's
    has a BF16 mmproj, any other recipe its own.

    With `budget` ("4.5GiB", both files together) no recipe is used: types that are fast on
    `device` are chosen so that the pair fits and the expected loss is least, times the factors in
    the file `sensitivity` (quantize.fit); an `mmproj_type` then stands as it is.

    With `dry_run` nothing is written, and nothing is read but headers and, for a budget, a few
    rows; sizes and types are exact. `progress` is called while a budget is fitted, and then again
    from the start.

    Raises what quantize.errors draws, and OSError where reading or writing fails.
    """
    started = time.perf_counter()
    threads = threads or _cores()
    if budget is None:
        text_recipe = find_recipe(recipe)
        mmproj_recipe = find_mmproj_recipe(mmproj_type, text_recipe)
        source = open_checkpoint(checkpoint)
        plans = survey(source, imatrix).plan(out, text_recipe, mmproj_recipe)
        name, fitted = text_recipe.name, None
    else:
        given = find_mmproj_recipe(mmproj_type, find_recipe(mmproj_type)) if mmproj_type else None
        target = Target(parse_size(budget), device, sensitivity, given)
        source = open_checkpoint(checkpoint)
        plans, fitted = fit(survey(source, imatrix), out, target, threads, progress)
        name = target.name
    _warn(plans, imatrix)
    if dry_run:
        return _manifest(source, name, plans, fitted, [None, None], None, started)

    out.mkdir(parents=True, exist_ok=True)
    check_space(out, sum(plan.layout.size for plan in plans))
    with ExitStack() as stack:
        outputs = [stack.enter_context(GGUFOutput(plan.path, plan.layout)) for plan in plans]
        destinations = _destinations(source, plans, outputs)
        passed = stream(
            _in_output_order(source, plans), destinations, threads=threads, progress=progress
        )
        digests = [output.finish() for output in outputs]
        made = _manifest(source, name, plans, fitted, digests, passed, started)
        path = out / f"{source.name}-{name}.manifest.json"
        partial = write_text(path, made.to_text())
        stack.callback(partial.unlink, missing_ok=True)
        publish(out, [*((output.partial, output.path) for output in outputs), (partial, path)])
    return made


def _warn(plans: tuple[Plan, ...], imatrix: Path | None) -> None:
    """Say what of the mmproj may overflow, and whether the imatrix is of no use."""
    if imatrix and not any(plan.guide for plan in plans):
        logger.warning("%s is not used: this recipe quantizes nothing", imatrix)
    half = [
        placed.tensor.name
        for placed in plans[1].layout.tensors
        if placed.type is Type.F16 and len(placed.tensor.shape) == 2
    ]
    if half:
        logger.warning(
            "%d weights of the mmproj are F16, the first %s: this architecture overflows in F16 "
            "on some backends (https://github.com/ggml-org/llama.cpp/issues/17534); "
            "bf16 and the edge recipes do not", len(half), half[0],
        )  # fmt: skip


def _destinations(
    source: Checkpoint, plans: tuple[Plan, ...], outputs: list[GGUFOutput]
) -> dict[Stored, list[Destination]]:
    destinations: dict[Stored, list[Destination]] = defaultdict(list)
    for plan, output in zip(plans, outputs, strict=True):
        for placed in plan.layout.tensors:
            stored = source.tensors[placed.tensor.source]
            importance = plan.importances.get(placed.tensor.name)
            destinations[stored].append(Destination(placed, output, importance))
    return destinations


def _in_output_order(source: Checkpoint, plans: tuple[Plan, ...]) -> dict[Path, list[Stored]]:
    """Put the shard that holds an output's first tensor first, so that hashing can begin."""
    first: dict[Path, int] = {}
    placed = (placed for plan in plans for placed in plan.layout.tensors)
    for position, each in enumerate(placed):
        first.setdefault(source.tensors[each.tensor.source].path, position)
    shards = sorted(source.shards, key=lambda path: first.get(path, len(first)))
    return {path: source.shards[path] for path in shards}


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _manifest(
    source: Checkpoint,
    recipe: str,
    plans: tuple[Plan, ...],
    fitted: FitReport | None,
    digests: list[str] | list[None],
    passed: Passed | None,
    started: float,
) -> Manifest:
    hashes = {path: _sha256(path) for path in manifest.settings_files(source.path)}
    return Manifest(
        source=Source(
            path=str(source.path),
            revision=source.revision,
            files=manifest.by_name(hashes | (passed.sha256 if passed else {})),
        ),
        recipe=recipe,
        outputs=tuple(_output(plan, digest) for plan, digest in zip(plans, digests, strict=True)),
        tensors=tuple(_tensor(placed, passed) for plan in plans for placed in plan.layout.tensors),
        imatrix=_imatrix(plans),
        fit=fitted,
        preprocessor=manifest.preprocessor(source),
        sampling=manifest.sampling(source),
        versions=manifest.versions(),
        seconds=round(time.perf_counter() - started, 3),
        peak_rss_bytes=manifest.peak_rss_bytes(),
    )


def _imatrix(plans: tuple[Plan, ...]) -> ImatrixReport | None:
    guide = next((plan.guide for plan in plans if plan.guide), None)
    if guide is None:
        return None
    imatrix = guide.imatrix
    return ImatrixReport(str(guide.path), guide.sha256, imatrix.datasets, imatrix.chunk_count)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _output(plan: Plan, digest: str | None) -> OutputFile:
    weights = sum(placed.tensor.count for placed in plan.layout.tensors)
    return OutputFile(
        file=plan.path.name,
        bytes=plan.layout.size,
        sha256=digest,
        bpw=round(sum(placed.nbytes for placed in plan.layout.tensors) * 8 / weights, 4),
    )


def _tensor(placed: Placed, passed: Passed | None) -> TensorReport:
    rmse = nmse = None
    if passed is not None:
        error = passed.errors.get(placed.tensor.name, Error())
        rmse = (error.squared_error / max(error.count, 1)) ** 0.5
        nmse = error.squared_error / error.squared_value if error.squared_value else 0.0
    return TensorReport(
        name=placed.tensor.name,
        shape=placed.tensor.shape,
        type=placed.type.name,
        bytes=placed.nbytes,
        rmse=rmse,
        nmse=nmse,
    )
