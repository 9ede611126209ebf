"""The engine: a model in memory, owned by one thread, callable from any."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TypedDict, Unpack

from miloco_edge import video
from miloco_edge.engine.economy import EXACT, Economy, Mode, economy_of
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.load import CONTEXT as CONTEXT
from miloco_edge.engine.load import MAX_CONTEXT as MAX_CONTEXT
from miloco_edge.engine.load import Loaded, load
from miloco_edge.engine.load import LoadOptions as LoadOptions
from miloco_edge.engine.load import Settings as Settings
from miloco_edge.engine.plan import Plan
from miloco_edge.engine.planner import (
    A_QUESTION,
    Intent,
    ahead_of,
    fitted_for_deadline,
    interrupt_for,
    learned,
    measure,
    pace_for,
    plan_look,
    seen_in_time,
)
from miloco_edge.engine.rates import Figure, Rates
from miloco_edge.engine.scene import Scene
from miloco_edge.engine.worker import Request, Worker
from miloco_edge.llama import MAX_TOKENS
from miloco_edge.prompt.chat import SMART_HOME, SMART_HOME_GRAMMAR, Language
from miloco_edge.registry import ModelFiles
from miloco_edge.types import Budget, Sampling
from miloco_edge.video import Clip, FittedClip

VISUAL_TOKENS = 1024
"""Visual tokens of a clip unless the budget says otherwise."""
MAX_FRAMES = 256
"""Frames of a clip; the report's own limit (arXiv 2512.17436, 3.1)."""


class LookOptions(TypedDict, total=False):
    """How to look."""

    budget: Budget | None
    """Visual tokens and seconds of the look, which leaves time for an answer of its tokens."""
    intent: Intent | None
    """What will be asked, for the look to leave time for it; one short question by default."""
    system: str | None
    """System prompt; the model's own by default."""
    smart_home: bool
    """Ask for answers as one JSON object that a hub can parse."""
    language: Language
    """Language of the smart-home prompt."""
    economy: Economy | Mode | None
    """What may be left out of a video; the engine's own by default."""


class Engine:
    """A model in memory. Make it with `Engine.load`; close it, or use it as a context manager.

        with Engine.load("demo") as engine:
            with engine.look(Clip.from_file("clip.mp4")) as scene:
                print(scene.ask("What is the person doing?").text)

    Any thread may call it; the work is done one request at a time in a thread of its own.
    """

    def __init__(
        self, worker: Worker, loaded: Loaded, load_s: float, economy: Economy = EXACT
    ) -> None:
        self._worker, self._loaded = worker, loaded
        self.load_s = load_s
        self.economy = economy
        """What looks leave out that do not say otherwise."""
        self._closing = threading.Lock()

    @classmethod
    def load(cls, ref: str | Path | None = None, **options: Unpack[LoadOptions]) -> Engine:
        """Load the pair of files that `ref` names (registry.reference).

        Raises ModelNotFoundError, GGUFError, ModelMismatchError or ModelLoadError.
        """
        started = time.perf_counter()
        economy = economy_of(options.get("economy", EXACT))
        worker = Worker()
        try:
            loaded = worker.submit(lambda: load(ref, options), Interrupt()).result()
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
        interrupt = interrupt_for(self._loaded.lookout, budget)
        intent = options.get("intent") or A_QUESTION

        def work() -> Scene:
            made = None if clip is None else self._plan(clip, budget, system, intent, interrupt)
            return self._look(
                clip, budget, system, sampling, smart_home, economy, interrupt, keep, made
            )

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

    def rates(self) -> Rates:
        """How fast the model is here and now, which deadlines are planned by.

        Where neither this machine's profile nor a look before has told, it is measured: a second
        or two with a model of 7B parameters.
        """

        def work() -> Rates:
            if self._loaded.lookout.pace is None:
                measure(self._loaded.lookout)
            assert self._loaded.lookout.pace is not None
            return self._loaded.lookout.pace.now()

        return self._worker.submit(work, Interrupt()).result()

    def gauge(self) -> list[Figure]:
        """Measure how fast the model is here, thoroughly: a minute or two with 7B parameters."""
        lookout = self._loaded.lookout
        return self._worker.submit(lambda: measure(lookout, thorough=True), Interrupt()).result()

    def forget(self) -> None:
        """Drop what is kept between scenes, so that the next look begins from nothing."""
        self._worker.submit(self._loaded.lookout.forget, Interrupt()).result()

    def cancel(self) -> None:
        """Stop every look and question in flight, from any thread; the engine goes on."""
        self._worker.cancel()

    def close(self) -> None:
        """Stop what is running and free the model; a second call does nothing."""
        self._worker.close()
        with self._closing:  # what is freed takes a while, and must not be freed twice
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
        made: Plan | None,
    ) -> Scene:
        started = time.perf_counter()
        fitted = None if clip is None else self._fitted(clip, budget, made)
        fit_s = time.perf_counter() - started
        prefilled = self._loaded.lookout.look(
            fitted,
            system=system,
            tokens_per_second=self.files.preprocessor.tokens_per_second,
            interrupt=interrupt,
            economy=economy,
            keep=keep,
        )
        if fitted is not None:
            fitted = seen_in_time(fitted, prefilled)
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
            predicted_s=None if made is None else made.look_s,
        )

    def _plan(
        self, clip: Clip, budget: Budget, system: str, intent: Intent, interrupt: Interrupt
    ) -> Plan | None:
        """What of a clip there is time for; None without a deadline, or where nothing is known."""
        lookout = self._loaded.lookout
        if budget.seconds is None or interrupt.reason() is not None:
            return None
        pace = pace_for(lookout, budget.seconds)
        if pace is None:
            return None
        _, depth, _ = lookout.opening(system, media=True)
        return plan_look(
            lookout,
            pace,
            clip,
            self.files.preprocessor,
            ahead_of(lookout, self._loaded.facts, intent, budget),
            interrupt,
            depth=depth,
            visual_tokens=budget.visual_tokens or VISUAL_TOKENS,
            max_frames=MAX_FRAMES,
        )

    def _fitted(self, clip: Clip, budget: Budget, made: Plan | None) -> FittedClip:
        """A clip at the size that is planned, or that the budget allows."""
        if made is None or made.view is None:
            return self.fit(clip, budget.visual_tokens)
        began = time.perf_counter()
        fitted = self.fit(clip, made.view.budget)
        learned(self._loaded.lookout.pace, clip, len(fitted.times_s), began)
        return fitted_for_deadline(fitted, made)
