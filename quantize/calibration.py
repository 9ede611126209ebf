"""Calibration: an imatrix of the language model and the ViT from clips with questions.

The one module of this package that runs an Engine. Each clip is looked at once and asked in
both forms, /no_think and thinking; the model's own answers, or the targets that a manifest gives,
are decoded too, since a quantized model spends its time on them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Unpack

from miloco_edge import registry
from miloco_edge.engine import Engine
from miloco_edge.engine.economy import EXACT, economy_of
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.errors import NotFoundError, RefusedError
from miloco_edge.llama import ActivationSums
from miloco_edge.types import Budget, Sampling
from miloco_edge.video import Clip
from quantize import errors
from quantize.clips import Item, read_items
from quantize.errors import ImatrixError
from quantize.imatrix import write_imatrix
from quantize.moments import (
    Columns,
    Model,
    Moments,
    mix,
    of_clip,
    read_moments,
    write_moments,
)

logger = logging.getLogger("miloco_edge.quantize")

Progress = Callable[[int, int], None]
"""Called with the clips that are done and their number."""


@dataclass(frozen=True)
class Showing:
    """How clips are shown and how long answers may get."""

    visual_tokens: int = 1024
    answer_tokens: int = 64
    thinking_tokens: int = 128


@dataclass(frozen=True)
class Calibration:
    """What a run did."""

    out: Path
    state: Path
    model: Model
    seen: int
    """Clips that were looked at in this run."""
    held: int
    """Clips that the state or merged runs had already."""
    skipped: Mapping[str, str]
    """Media that could not be read, and why."""
    rows: Mapping[str, int]
    """Rows of text tokens and of visual tokens in the language model, of patches in the ViT."""
    tensors: int
    visual_weight: float
    seconds: float


def calibrate(
    model: str | Path | None,
    out: Path,
    *,
    clips: Path | None = None,
    merge: Sequence[Path] = (),
    visual_weight: float = 0.5,
    showing: Showing = Showing(),
    limit: int | None = None,
    outputs: bool = False,
    restart: bool = False,
    save_every: int = 8,
    progress: Progress | None = None,
    **load: Unpack[LoadOptions],
) -> Calibration:
    """Write the imatrix of `model` to `out`, and what it was made from to `state_path(out)`.

    `clips` is a folder of videos and pictures, or a JSONL manifest as `miloco-edge eval` reads.
    What the state holds already is not looked at again, so a run that was stopped goes on where it
    was; with nothing new, the imatrix is mixed anew from the state (and from `merge`, states of
    other runs or the imatrices beside them) and the model is not loaded.

    Raises quantize.errors.NotFoundError, ImatrixError for a state that is damaged or of another
    model, RefusedError where no clip is left, and what Engine.load and Engine.look raise.
    """
    started = time.perf_counter()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent):
        pass  # a place that cannot be written to is found before hours of work
    items = [] if clips is None else read_items(clips)[:limit]
    state = state_path(out)
    load.setdefault("profile", False)  # it may have another mmproj, or a KV cache that rounds
    identity, shown = _identity(model, load), _shown(showing, load)
    moments = Moments(identity, {}, {})
    if state.exists() and not restart:
        moments = _of_model(identity, state)
    moments = _merged(moments, [_of_model(identity, _state_of(path)) for path in merge], merge)
    held = len(moments.clips)
    todo = _not_held(items, moments, shown, state)
    skipped: dict[str, str] = {}
    if todo:
        load["observer"] = observer = ActivationSums()
        with Engine.load(model, **load) as engine:
            moments, skipped = _see_all(
                todo, moments, lambda item: _see(engine, observer, item, showing),
                shown=shown, save=lambda m: write_moments(state, m),
                save_every=save_every, progress=progress or (lambda done, total: None),
            )  # fmt: skip
    elif merge:
        write_moments(state, moments)
    if not moments.clips:
        raise errors.RefusedError(
            f"expected clips that can be read, got none: {_reasons(skipped) or 'none was given'}",
            hint="name a folder of videos and pictures or a manifest with --clips",
        )
    dataset = clips.stem if clips else out.stem
    imatrix = mix(moments, visual_weight, dataset=dataset, outputs=outputs)
    write_imatrix(out, imatrix)
    return Calibration(
        out, state, identity, len(moments.clips) - held, held, skipped, _rows(moments),
        len(imatrix.entries), visual_weight, round(time.perf_counter() - started, 3),
    )  # fmt: skip


def state_path(out: Path) -> Path:
    """Where the state of the run that writes `out` is kept."""
    return out.with_name(f"{out.name}.state.npz")


def _state_of(path: Path) -> Path:
    return path if path.suffix == ".npz" else state_path(path)


def _see_all(
    todo: Mapping[str, Item],
    moments: Moments,
    see: Callable[[Item], Mapping[tuple[str, str], Columns]],
    *,
    shown: str,
    save: Callable[[Moments], None],
    save_every: int,
    progress: Progress,
) -> tuple[Moments, dict[str, str]]:
    """The moments with those of every item that can be seen, and why the others cannot.

    They are saved on the way and whatever happens, so that a run that is stopped loses the clip
    that it was at and no other.
    """
    saved, skipped = 0, {}
    try:
        for done, (key, item) in enumerate(todo.items(), 1):
            try:
                sums = see(item)
            except (NotFoundError, RefusedError) as error:
                logger.warning("skipped %s: %s", item.name, error)
                skipped[item.name] = str(error)
            else:
                moments = moments.plus(of_clip(moments.model, key, shown, sums))
            if done - saved >= save_every:
                save(moments)
                saved = done
            progress(done, len(todo))
    finally:
        if moments.clips:
            save(moments)
    return moments, skipped


def _see(
    engine: Engine, observer: ActivationSums, item: Item, showing: Showing
) -> dict[tuple[str, str], Columns]:
    """Sums of one clip with all its questions, the system prompt included.

    What the engine keeps between scenes is forgotten first, so that a clip's sums do not depend
    on the clips before it. Without a target the answer is the model's likeliest.
    """
    read = Clip.from_folder if item.media.is_dir() else Clip.from_file
    fps = engine.files.preprocessor.fps
    clip = read(item.media, fps=fps, start=item.start, end=item.end)
    look = Budget(visual_tokens=showing.visual_tokens)
    answer = Budget(answer_tokens=showing.answer_tokens, thinking_tokens=showing.thinking_tokens)
    engine.forget()
    observer.start()
    try:
        with engine.look(clip, budget=look) as scene:
            for ask in item.asks:
                for think in (False, True) if engine.thinks else (False,):
                    if ask.target is not None and not think:
                        scene.read(ask.question, ask.target)
                    else:
                        scene.ask(ask.question, think=think, budget=answer, sampling=Sampling())
    finally:
        sums = observer.take()
    return {key: Columns(columns.sums, columns.rows) for key, columns in sums.items()}


def _identity(model: str | Path | None, load: LoadOptions) -> Model:
    files = registry.resolve(model, mmproj=load.get("mmproj"), offline=load.get("offline", False))
    text, mmproj = (_sha256(path) for path in (files.text, files.mmproj))
    return Model(files.name, files.file_type, text, mmproj)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_model(model: Model, path: Path) -> Moments:
    """Read a state; raise ImatrixError where it is of another model."""
    moments = read_moments(path)
    if not moments.model.is_same(model):
        other = moments.model
        raise ImatrixError(
            path,
            f"expected sums of {model.name} {model.file_type} ({model.text_sha256[:12]}, "
            f"{model.mmproj_sha256[:12]}), got {other.name} {other.file_type} "
            f"({other.text_sha256[:12]}, {other.mmproj_sha256[:12]})",
            hint="calibrate every model for itself: choose another --out, or give --restart",
        )
    return moments


def _merged(moments: Moments, runs: Sequence[Moments], paths: Sequence[Path]) -> Moments:
    """All runs together. One whose clips are all there already adds nothing."""
    for run, path in zip(runs, paths, strict=True):
        twice = run.clips.keys() & moments.clips.keys()
        if len(twice) == len(run.clips):
            continue
        if twice:
            raise ImatrixError(
                path,
                f"expected clips that no other run has seen, got {len(twice)} of "
                f"{len(run.clips)} twice",
                hint="merge runs over different clips",
            )
        moments = moments.plus(run)
    return moments


def _shown(showing: Showing, load: LoadOptions) -> str:
    economy = economy_of(load.get("economy", EXACT))
    left_out = {} if economy == EXACT else {"economy": asdict(economy)}
    return json.dumps({**asdict(showing), **left_out})


def _not_held(items: Sequence[Item], moments: Moments, shown: str, state: Path) -> dict[str, Item]:
    """The items that have not been seen, each once.

    Raises ImatrixError where one has been seen and was shown in another way.
    """
    todo: dict[str, Item] = {}
    for item in items:
        key = item.key()
        if (held := moments.clips.get(key)) is None:
            todo[key] = item
        elif held != shown:
            raise ImatrixError(
                state,
                f"expected {item.name} to have been shown with {shown}, got {held}",
                hint="use the same settings, or begin again with --restart",
            )
    return todo


def _rows(moments: Moments) -> dict[str, int]:
    places = {
        "text": ("text", "blk.0.attn_q.weight"),
        "visual": ("visual", "blk.0.attn_q.weight"),
        "patches": ("visual", "v.blk.0.attn_q.weight"),
    }
    return {
        name: moments.sums[place].rows if place in moments.sums else 0
        for name, place in places.items()
    }


def _reasons(skipped: Mapping[str, str]) -> str:
    return "; ".join(list(skipped.values())[:3])
