"""A pair of files becomes a model in memory, with this machine's profile where there is one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from miloco_edge import registry
from miloco_edge.engine.economy import Economy, Mode
from miloco_edge.engine.look import Lookout
from miloco_edge.engine.pace import Pace
from miloco_edge.engine.prefix import Prefixes
from miloco_edge.engine.profile import (
    Profile,
    named,
    physical_cores,
    profile_path,
    read_profile,
    this_machine,
)
from miloco_edge.engine.rates import Rates
from miloco_edge.engine.sizes import gpu_layers, vision_shape
from miloco_edge.llama import (
    N_BATCH,
    ActivationSums,
    Context,
    KVType,
    TextModel,
    VisionEncoder,
)
from miloco_edge.prompt import ChatFacts, chat_facts
from miloco_edge.prompt.chat import SMART_HOME
from miloco_edge.registry import ModelFiles

logger = logging.getLogger("miloco_edge.engine")

CONTEXT = 8192
MAX_CONTEXT = 16384
"""The longest context that the model was trained for at home (arXiv 2512.17436, 3.1)."""
_SPEED = ("threads", "gpu_layers", "batch", "flash_attention", "kv_type", "repack", "mmap")
"""Options that the rates of a profile depend on, beside the files."""


class LoadOptions(TypedDict, total=False):
    """How to load a model."""

    mmproj: Path | str | None
    """The mmproj, where it does not lie beside the text GGUF."""
    threads: int | None
    """CPU threads; all physical ones by default."""
    gpu_layers: int | Literal["auto"]
    """Layers on the GPU; "auto" is what its free memory holds, 0 without a GPU build."""
    context: int
    """Tokens that all open scenes and answers share."""
    batch: int | None
    """Tokens computed at once (batch and micro-batch); the longest that a deadline waits for."""
    flash_attention: bool | None
    """llama.cpp's own choice by default."""
    kv_type: KVType | None
    """Of the KV cache; q8_0 takes half of f16's memory and needs flash attention."""
    repack: bool | None
    """Interleave the weights for this CPU's kernels; by default where that is quicker."""
    mmap: bool | None
    """Map the weights instead of reading them; by default where they are not repacked."""
    profile: bool
    """Take what is not given from this machine's profile (`miloco-edge tune`); so by default."""
    economy: Economy | Mode
    """What looks may leave out unless they say otherwise: nothing ("exact") by default."""
    prefixes: Path | str | None
    """A folder in which the KV of our own system prompts is kept over restarts; none by default."""
    offline: bool
    """Take hub models from the cache alone."""
    observer: ActivationSums | None
    """Calibration's: sums what goes into every weight while it is started."""


@dataclass(frozen=True)
class Settings:
    """How a model was loaded, every option decided."""

    threads: int
    gpu_layers: int
    context: int
    batch: int
    flash_attention: bool | None
    """None: llama.cpp's own choice."""
    kv_type: KVType
    repack: bool
    mmap: bool
    profile: Path | None
    """The device profile that had a say."""


@dataclass(frozen=True)
class Loaded:
    """What lives in llama.cpp, and what was read off the files."""

    files: ModelFiles
    model: TextModel
    context: Context
    vision: VisionEncoder
    lookout: Lookout
    facts: ChatFacts
    settings: Settings

    def close(self) -> None:
        """Free all of it."""
        self.vision.close()
        self.context.close()
        self.model.close()


def load(ref: str | Path | None, options: LoadOptions) -> Loaded:
    """Read a pair of files into memory, as `Engine.load` says; in the engine's own thread."""
    files = registry.resolve(
        ref, mmproj=options.get("mmproj"), offline=options.get("offline", False)
    )
    told, path, profile = _with_profile(files, options)
    if told.get("mmproj") != options.get("mmproj"):
        files = registry.resolve(ref, mmproj=told["mmproj"], offline=options.get("offline", False))
    # llama.cpp aborts the process on some malformed files, so ours is the first look at them.
    text, mmproj = registry.read_header(files.text), registry.read_header(files.mmproj)
    registry.check_pair(text, mmproj)
    threads = told.get("threads") or physical_cores()
    n_ctx = options.get("context") or CONTEXT
    layers = gpu_layers(told.get("gpu_layers", "auto"), text, mmproj, n_ctx)
    observer = options.get("observer")
    model = TextModel(
        files.text,
        file_type=files.file_type,
        gpu_layers=layers,
        repack=told.get("repack"),
        mmap=told.get("mmap"),
    )
    with ExitStack() as unfinished:
        unfinished.callback(model.close)
        context = Context(
            model,
            n_ctx=min(n_ctx, MAX_CONTEXT, model.n_ctx_train),
            threads=threads,
            n_batch=told.get("batch") or N_BATCH,
            flash_attention=told.get("flash_attention"),
            kv_type=told.get("kv_type") or "f16",
            observer=observer,
        )
        unfinished.callback(context.close)
        vision = VisionEncoder(
            files.mmproj,
            model,
            vision_shape(mmproj),
            threads=threads,
            use_gpu=layers > 0,
            observer=observer,
        )
        unfinished.callback(vision.close)
        facts = chat_facts(model.chat_template())
        settings = Settings(
            threads=threads,
            gpu_layers=layers,
            context=context.n_ctx,
            batch=context.n_batch,
            flash_attention=told.get("flash_attention"),
            kv_type=told.get("kv_type") or "f16",
            repack=model.plan.repack,
            mmap=model.plan.mmap,
            profile=path,
        )
        folder = options.get("prefixes")
        systems = (facts.system, *SMART_HOME.values())
        prefixes = Prefixes(Path(folder), files.text, settings, systems) if folder else None
        lookout = Lookout(model, context, vision, prefixes)
        rates = None if profile is None else _rates_of(profile, told, files.mmproj)
        lookout.pace = None if rates is None else Pace(rates)
        # The system prompt is prefilled now: it warms the model up and every scene starts from it.
        lookout.opening(facts.system, media=True)
        unfinished.pop_all()
    return Loaded(files, model, context, vision, lookout, facts, settings)


def _with_profile(
    files: ModelFiles, options: LoadOptions
) -> tuple[Mapping[str, Any], Path | None, Profile | None]:
    """The options, and this machine's profile where they say nothing; its file and itself."""
    given = {
        name: value
        for name, value in options.items()
        if value is not None and (name, value) != ("gpu_layers", "auto")
    }
    if not options.get("profile", True):
        return given, None, None
    path = profile_path(this_machine(files.text))
    profile = read_profile(path)
    if profile is None:
        return given, None, None
    known = dict(profile.load)
    if "mmproj" in known and not Path(known["mmproj"]).is_file():
        logger.warning("%s: its mmproj %s is gone; tune again", path, known.pop("mmproj"))
    return {**known, **given}, path, profile


def _rates_of(profile: Profile, told: Mapping[str, Any], mmproj: Path) -> Rates | None:
    """The rates of a profile, where all is as it was when they were measured; else None."""
    same = all(profile.load.get(name) == told.get(name) for name in _SPEED)
    return profile.rates if same and profile.mmproj == named(mmproj) else None
