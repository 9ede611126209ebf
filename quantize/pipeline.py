"""The door: a checkpoint in, a GGUF pair and its manifest out."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from quantize import manifest
from quantize.checkpoint import Checkpoint, open_checkpoint
from quantize.codec import SOURCES, Floats, Type, block_size
from quantize.container import Layout, Placed, lay_out
from quantize.dimensions import text_dimensions, vision_dimensions
from quantize.errors import CheckpointError
from quantize.guide import Guide, check_guided, importances, read_guide
from quantize.manifest import ImatrixReport, Manifest, OutputFile, Source, TensorReport
from quantize.metadata import Fields, mmproj_fields, text_fields
from quantize.names import Tensor, mmproj_tensors, text_tensors
from quantize.outputs import GGUFOutput, check_space, publish, write_text
from quantize.recipes import (
    Contents,
    Recipe,
    choose_types,
    file_type,
    find_mmproj_recipe,
    find_recipe,
)
from quantize.safetensors import Stored
from quantize.stream import Destination, Error, Passed, Progress, stream
from quantize.vocabulary import read_vocabulary

logger = logging.getLogger("miloco_edge.quantize")

_MakeFields = Callable[[int, Guide | None], Fields]
"""From general.file_type and the imatrix to a file's keys."""


def quantize(
    checkpoint: Path,
    out: Path,
    *,
    recipe: str = "q4_0",
    mmproj_type: str | None = None,
    imatrix: Path | None = None,
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
    has a BF16 mmproj, any other recipe its own. With `dry_run` nothing is read but headers and
    nothing is written; sizes and types are exact.

    Raises what quantize.errors draws, and OSError where reading or writing fails.
    """
    started = time.perf_counter()
    text_recipe = find_recipe(recipe)
    mmproj_recipe = find_mmproj_recipe(mmproj_type, text_recipe)
    source = open_checkpoint(checkpoint)
    plans = _plan(source, out, text_recipe, mmproj_recipe, imatrix)
    _warn(plans, imatrix)
    if dry_run:
        return _manifest(source, text_recipe, plans, [None, None], None, started)

    out.mkdir(parents=True, exist_ok=True)
    check_space(out, sum(plan.layout.size for plan in plans))
    with ExitStack() as stack:
        outputs = [stack.enter_context(GGUFOutput(plan.path, plan.layout)) for plan in plans]
        destinations = _destinations(source, plans, outputs)
        passed = stream(
            _in_output_order(source, plans), destinations,
            threads=threads or _cores(), progress=progress,
        )  # fmt: skip
        digests = [output.finish() for output in outputs]
        made = _manifest(source, text_recipe, plans, digests, passed, started)
        path = out / f"{source.name}-{text_recipe.name}.manifest.json"
        partial = write_text(path, made.to_text())
        stack.callback(partial.unlink, missing_ok=True)
        publish(out, [*((output.partial, output.path) for output in outputs), (partial, path)])
    return made


@dataclass(frozen=True)
class _Plan:
    """One output file, before a weight is read."""

    path: Path
    layout: Layout
    guide: Guide | None
    """None where nothing is quantized, or no imatrix is given."""
    importances: Mapping[str, Floats]


def _plan(
    source: Checkpoint, out: Path, recipe: Recipe, mmproj: Recipe, imatrix: Path | None
) -> tuple[_Plan, _Plan]:
    text_sizes = text_dimensions(source)
    vision_sizes = vision_dimensions(source, text_sizes, mmproj.pad_ffn)
    text = text_tensors(text_sizes, tied=_is_tied(source))
    vision = mmproj_tensors(vision_sizes)
    _check_tensors(source, [*text, *vision])
    vocabulary = read_vocabulary(source, text_sizes.vocabulary)
    guide = read_guide(imatrix, [*text, *vision]) if imatrix else None
    queries_per_key = text_sizes.heads // text_sizes.kv_heads

    def plan(name: str, recipe: Recipe, contents: Contents, fields: _MakeFields) -> _Plan:
        types = choose_types(recipe, contents)
        check_guided(recipe.name, contents.file, types, guide)
        used = guide if any(block_size(type) > 1 for _, type in types) else None
        layout = lay_out(fields(file_type(recipe, types), used), types)
        return _Plan(out / name, layout, used, importances(used, types) if used else {})

    return (
        plan(
            f"{source.name}-{recipe.name}.gguf", recipe,
            Contents("text", tuple(text), text_sizes.layers, queries_per_key, guide is not None),
            lambda type, guide: text_fields(source, text_sizes, text, vocabulary, type, guide),
        ),
        plan(
            f"mmproj-{source.name}-{mmproj.name}.gguf", mmproj,
            Contents("mmproj", tuple(vision), has_imatrix=guide is not None),
            lambda type, guide: mmproj_fields(source, vision_sizes, vision, type, guide),
        ),
    )  # fmt: skip


def _warn(plans: tuple[_Plan, ...], imatrix: Path | None) -> None:
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


def _is_tied(source: Checkpoint) -> bool:
    """Whether the embedding doubles as the output; a separate output, if stored, is used."""
    return source.text_config.get("tie_word_embeddings") is True and (
        "lm_head.weight" not in source.tensors
    )


def _check_tensors(source: Checkpoint, tensors: list[Tensor]) -> None:
    """Raise CheckpointError unless the checkpoint holds exactly what the outputs are made of."""
    expected = {tensor.source: tensor.source_shape for tensor in tensors}
    for name, shape in expected.items():
        stored = source.tensors.get(name)
        if stored is None:
            raise CheckpointError(
                source.path,
                f"expected a tensor {name}, got none",
                hint="a shard may be missing; download the checkpoint again",
            )
        if stored.shape != shape:
            raise CheckpointError(
                stored.path, f"expected {name} of shape {shape}, got {stored.shape}"
            )
        if stored.dtype not in SOURCES:
            raise CheckpointError(
                stored.path,
                f"expected {name} as BF16, F16 or F32, got {stored.dtype}",
                hint="use the checkpoint that has not been quantized",
            )
    if unknown := source.tensors.keys() - expected.keys():
        raise CheckpointError(
            source.path, f"expected tensors of Qwen2.5-VL alone, got {min(unknown)} as well"
        )


def _destinations(
    source: Checkpoint, plans: tuple[_Plan, ...], outputs: list[GGUFOutput]
) -> dict[Stored, list[Destination]]:
    destinations: dict[Stored, list[Destination]] = defaultdict(list)
    for plan, output in zip(plans, outputs, strict=True):
        for placed in plan.layout.tensors:
            stored = source.tensors[placed.tensor.source]
            importance = plan.importances.get(placed.tensor.name)
            destinations[stored].append(Destination(placed, output, importance))
    return destinations


def _in_output_order(source: Checkpoint, plans: tuple[_Plan, ...]) -> dict[Path, list[Stored]]:
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
    recipe: Recipe,
    plans: tuple[_Plan, ...],
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
        recipe=recipe.name,
        outputs=tuple(_output(plan, digest) for plan, digest in zip(plans, digests, strict=True)),
        tensors=tuple(_tensor(placed, passed) for plan in plans for placed in plan.layout.tensors),
        imatrix=_imatrix(plans),
        preprocessor=manifest.preprocessor(source),
        sampling=manifest.sampling(source),
        versions=manifest.versions(),
        seconds=round(time.perf_counter() - started, 3),
        peak_rss_bytes=manifest.peak_rss_bytes(),
    )


def _imatrix(plans: tuple[_Plan, ...]) -> ImatrixReport | None:
    guide = next((plan.guide for plan in plans if plan.guide), None)
    if guide is None:
        return None
    imatrix = guide.imatrix
    return ImatrixReport(str(guide.path), guide.sha256, imatrix.datasets, imatrix.chunk_count)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _output(plan: _Plan, digest: str | None) -> OutputFile:
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
