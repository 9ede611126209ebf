"""The engine: a model in memory, owned by one thread, callable from any."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from miloco_edge import registry, video
from miloco_edge.engine.economy import EXACT, Economy, Mode, economy_of
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.look import Lookout
from miloco_edge.engine.prefix import Prefixes
from miloco_edge.engine.profile import physical_cores, profile_path, read_profile, this_machine
from miloco_edge.engine.scene import Scene
from miloco_edge.engine.sizes import gpu_layers, vision_shape
from miloco_edge.engine.worker import Request, Worker
from miloco_edge.llama import (
    MAX_TOKENS,
    N_BATCH,
    ActivationSums,
    Context,
    KVType,
    TextModel,
    VisionEncoder,
)
from miloco_edge.prompt import ChatFacts, chat_facts
from miloco_edge.prompt.chat import SMART_HOME, SMART_HOME_GRAMMAR, Language
from miloco_edge.registry import ModelFiles
from miloco_edge.types import Budget, Sampling
from miloco_edge.video import Clip, FittedClip

logger = logging.getLogger("miloco_edge.engine")

VISUAL_TOKENS = 1024
"""Visual tokens of a clip unless the budget says otherwise."""
MAX_FRAMES = 256
"""Frames of a clip; the report's own limit (arXiv 2512.17436, 3.1)."""
CONTEXT = 8192
MAX_CONTEXT = 16384
"""The longest context that the model was trained for at home (arXiv 2512.17436, 3.1)."""


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
    """A folder in which the KV of system prompts is kept over restarts; none by default."""
    offline: bool
    """Take hub models from the cache alone."""
    observer: ActivationSums | None
    """Calibration's: sums what goes into every weight while it is started."""


class LookOptions(TypedDict, total=False):
    """How to look."""

    budget: Budget | None
    """Visual tokens and seconds of the look."""
    system: str | None
    """System prompt; the model's own by default."""
    smart_home: bool
    """Ask for answers as one JSON object that a hub can parse."""
    language: Language
    """Language of the smart-home prompt."""
    economy: Economy | Mode | None
    """What may be left out of a video; the engine's own by default."""


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
class _Loaded:
    """What lives in llama.cpp, and what was read off the files."""

    files: ModelFiles
    model: TextModel
    context: Context
    vision: VisionEncoder
    lookout: Lookout
    facts: ChatFacts
    settings: Settings

    def close(self) -> None:
        self.vision.close()
        self.context.close()
        self.model.close()


class Engine:
    """A model in memory. Make it with `Engine.load`; close it, or use it as a context manager.

        with Engine.load("demo") as engine:
            with engine.look(Clip.from_file("clip.mp4")) as scene:
                print(scene.ask("What is the person doing?").text)

    Any thread may call it; the work is done one request at a time in a thread of its own.
    """

    def __init__(
        self, worker: Worker, loaded: _Loaded, load_s: float, economy: Economy = EXACT
    ) -> None:
        self._worker, self._loaded = worker, loaded
        self.load_s = load_s
        self.economy = economy
        """What looks leave out that do not say otherwise."""

    @classmethod
    def load(cls, ref: str | Path | None = None, **options: Unpack[LoadOptions]) -> Engine:
        """Load the pair of files that `ref` names (CONTRACT: model reference).

        Raises ModelNotFoundError, GGUFError, ModelMismatchError or ModelLoadError.
        """
        started = time.perf_counter()
        economy = economy_of(options.get("economy", EXACT))
        worker = Worker()
        try:
            loaded = worker.submit(lambda: _load(ref, options), Interrupt()).result()
        except BaseException:
            worker.close()
            raise
        return cls(worker, loaded, time.perf_counter() - started, economy)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def files(self) -> ModelFiles:
        """The files that were loaded, and what is known of them."""
        return self._loaded.files

    @property
    def settings(self) -> Settings:
        """How they were loaded."""
        return self._loaded.settings

    @property
    def merges_pairs(self) -> bool:
        """Whether this build of llama.cpp merges frame pairs as the model was trained."""
        return self._loaded.vision.merges_pairs

    @property
    def thinks(self) -> bool:
        """Whether the model can think before it answers."""
        return self._loaded.facts.thinks

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self._loaded.model.n_vocab

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text; nothing in it becomes a special token."""
        return [int(token) for token in self._loaded.model.tokenize(text, special=False)]

    def look(self, clip: Clip | None = None, **options: Unpack[LookOptions]) -> Scene:
        """Fit a clip to the budget, encode and prefill it once; ask the scene as often as needed.

        Without a clip the scene is a conversation without pictures. A look that would miss its
        deadline stops early, and its scene says so. Raises MediaError for a budget that no picture
        fits, ContextFullError, NonFiniteError, ClosedError.
        """
        return self.start_look(clip, **options).result()

    def start_look(
        self,
        clip: Clip | None,
        *,
        urgent: bool = False,
        keep: bool = False,
        **options: Unpack[LookOptions],
    ) -> Request[Scene]:
        """As `look`, without waiting; an urgent one overtakes between two slices of another.

        One to be kept is at hand for the next look at the same clip, after it was closed too.
        """
        budget = options.get("budget") or Budget()
        language = options.get("language", "en")
        system, grammar = self._loaded.facts.system, None
        if options.get("smart_home"):
            system, grammar = SMART_HOME[language], SMART_HOME_GRAMMAR
        system = options.get("system") or system
        sampling = Sampling(
            self.files.sampling.temperature, self.files.sampling.top_p, grammar=grammar
        )
        smart_home = options.get("smart_home", False)
        economy = economy_of(options.get("economy") or self.economy)
        interrupt = Interrupt(budget.seconds)

        def work() -> Scene:
            return self._look(clip, budget, system, sampling, smart_home, economy, interrupt, keep)

        return self._worker.submit(work, interrupt, urgent=urgent)

    def fit(self, clip: Clip, visual_tokens: int | None = None) -> FittedClip:
        """What `look` would show the model of a clip."""
        return video.fit(
            clip,
            self.files.preprocessor,
            visual_tokens or VISUAL_TOKENS,
            max_frames=MAX_FRAMES,
            max_tokens_per_patch=MAX_TOKENS,
        )

    def forget(self) -> None:
        """Drop what is kept between scenes, so that the next look begins from nothing."""
        self._worker.submit(self._loaded.lookout.forget, Interrupt()).result()

    def cancel(self) -> None:
        """Stop every look and question in flight, from any thread; the engine goes on."""
        self._worker.cancel()

    def close(self) -> None:
        """Stop what is running and free the model; a second call does nothing."""
        self._worker.close()
        self._loaded.close()

    def _look(
        self,
        clip: Clip | None,
        budget: Budget,
        system: str,
        sampling: Sampling,
        smart_home: bool,
        economy: Economy,
        interrupt: Interrupt,
        keep: bool,
    ) -> Scene:
        started = time.perf_counter()
        fitted = None if clip is None else self.fit(clip, budget.visual_tokens)
        fit_s = time.perf_counter() - started
        prefilled = self._loaded.lookout.look(
            fitted,
            system=system,
            tokens_per_second=self.files.preprocessor.tokens_per_second,
            interrupt=interrupt,
            economy=economy,
            keep=keep,
        )
        return Scene(
            self._worker,
            self._loaded.lookout,
            prefilled,
            fitted,
            facts=self._loaded.facts,
            sampling=sampling,
            smart_home=smart_home,
            calibration=self.files.calibration,
            tokens_per_second=self.files.preprocessor.tokens_per_second,
            fit_s=fit_s,
        )


def _load(ref: str | Path | None, options: LoadOptions) -> _Loaded:
    files = registry.resolve(
        ref, mmproj=options.get("mmproj"), offline=options.get("offline", False)
    )
    told, profile = _with_profile(files, options)
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
    try:
        n_ctx = min(n_ctx, MAX_CONTEXT, model.n_ctx_train)
        context = Context(
            model,
            n_ctx=n_ctx,
            threads=threads,
            n_batch=told.get("batch") or N_BATCH,
            flash_attention=told.get("flash_attention"),
            kv_type=told.get("kv_type") or "f16",
            observer=observer,
        )
        try:
            vision = VisionEncoder(
                files.mmproj,
                model,
                vision_shape(mmproj),
                threads=threads,
                use_gpu=layers > 0,
                observer=observer,
            )
        except BaseException:
            context.close()
            raise
    except BaseException:
        model.close()
        raise
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
        profile=profile,
    )
    folder = options.get("prefixes")
    prefixes = None if folder is None else Prefixes(Path(folder), files.text, settings)
    lookout = Lookout(model, context, vision, prefixes)
    loaded = _Loaded(files, model, context, vision, lookout, facts, settings)
    try:
        # The system prompt is prefilled now: it warms the model up and every scene starts from it.
        loaded.lookout.opening(facts.system, media=True)
    except BaseException:
        loaded.close()
        raise
    return loaded


def _with_profile(files: ModelFiles, options: LoadOptions) -> tuple[Mapping[str, Any], Path | None]:
    """The options, and this machine's profile where they say nothing; and its file if it did."""
    given = {
        name: value
        for name, value in options.items()
        if value is not None and (name, value) != ("gpu_layers", "auto")
    }
    if not options.get("profile", True):
        return given, None
    path = profile_path(this_machine(files.text))
    profile = read_profile(path)
    if profile is None:
        return given, None
    known = dict(profile.load)
    if "mmproj" in known and not Path(known["mmproj"]).is_file():
        logger.warning("%s: its mmproj %s is gone; tune again", path, known.pop("mmproj"))
    return {**known, **given}, path
