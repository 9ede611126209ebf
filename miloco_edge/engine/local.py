"""A model in this process, as a hub takes it: one call for a window, loaded when it is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, Unpack, cast

from miloco_edge.engine.clock import Clock
from miloco_edge.engine.closer import look_twice
from miloco_edge.engine.engine import Engine, LoadOptions
from miloco_edge.engine.planner import Intent, both
from miloco_edge.engine.protocol import Emit, EngineState, Pending, QuestionOptions, Seen
from miloco_edge.engine.scene import AskOptions
from miloco_edge.engine.worker import Request
from miloco_edge.errors import ClosedError
from miloco_edge.prompt import Piece
from miloco_edge.types import Answer, Budget, Timings
from miloco_edge.video import Clip
from miloco_edge.video.fit import LEAST_TOKENS

T = TypeVar("T")


class LocalEngine:
    """An Engine behind the protocol that a hub knows (`WindowEngine`)."""

    slots = 1

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._engine: Engine | None = None
        self._name = ""
        self._closed = False
        self._wanted = True
        self._loading = threading.Lock()
        # They wait for the one thread that owns the model; a question must not wait for a free one.
        self._waiters = ThreadPoolExecutor(max_workers=16, thread_name_prefix="miloco-edge-window")
        self._live: set[_Cancel] = set()

    @classmethod
    def of(cls, ref: str | Path | None = None, **options: Unpack[LoadOptions]) -> LocalEngine:
        """An engine that loads `ref` as Engine.load does, when it is first needed."""
        return cls(lambda: Engine.load(ref, **options))

    @property
    def name(self) -> str:
        """The model's name; empty before it was first loaded."""
        return self._name

    @property
    def state(self) -> EngineState:
        """Whether the model is in memory."""
        if self._closed:
            return "closed"
        if self._engine is not None:
            return "ready"
        return "loading" if self._loading.locked() else "unloaded"

    def load(self) -> None:
        """Have the model in memory."""
        self._wanted = True
        self._loaded()

    def unload(self) -> None:
        """Free the model after what is under way, unless more comes meanwhile."""
        self._wanted = False
        self._leave()

    def close(self) -> None:
        """Stop everything and free the model."""
        self._closed = True
        for cancel in list(self._live):
            cancel()
        self._leave()
        self._waiters.shutdown(wait=True)

    def decide(
        self,
        clip: Clip,
        rules: Sequence[str],
        *,
        budget: Budget | None = None,
    ) -> Pending[Seen]:
        """As WindowEngine.decide."""
        clock = Clock(budget)

        def work(cancel: _Cancel) -> Seen:
            engine = self._loaded()

            def look(some: Sequence[str], share: float) -> Seen:
                began = time.perf_counter()
                left = clock.left()
                if share < 1:
                    whole = engine.fit(clip, left.visual_tokens)
                    least = LEAST_TOKENS * whole.temporal_patches
                    tokens = max(round(whole.visual_tokens * share), least)
                    left = replace(left, visual_tokens=tokens)
                request = engine.start_look(clip, budget=left, intent=Intent(rules=tuple(some)))
                with cancel.result(request) as scene:
                    asked = scene.start_decide(some, budget=clock.left())
                    decided = cancel.result(asked)
                    timings = replace(
                        scene.timings,
                        total_s=time.perf_counter() - began,
                        predicted_s=both(scene.timings.predicted_s, decided.timings.predicted_s),
                    )
                    degraded = None if scene.clip is None else scene.clip.degraded
                    return Seen(decided.decisions, decided.usage, timings, degraded)

            closer = engine.economy.closer
            return look(rules, 1.0) if closer is None else look_twice(closer, rules, look)

        return self._start(work)

    def ask(
        self,
        clip: Clip | None,
        question: str,
        *,
        emit: Emit | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Pending[Answer]:
        """As WindowEngine.ask."""
        clock = Clock(options.get("budget"))
        system = options.pop("system", None)
        rest = cast(AskOptions, options)

        def work(cancel: _Cancel) -> Answer:
            # A person's question is answered from all there is, whatever windows leave out.
            think = options.get("think", False)
            look = self._loaded().start_look(
                clip,
                budget=clock.left(),
                system=system,
                intent=Intent(questions=(question,), think=think),
                economy="exact",
                urgent=True,
                keep=True,
            )
            with cancel.result(look) as scene:
                rest["budget"] = clock.left()
                request = scene.start_ask(
                    question,
                    emit=emit or _ignore,
                    urgent=True,
                    **rest,
                )
                answer = cancel.result(request)
                return replace(answer, timings=_together(scene.timings, answer.timings))

        return self._start(work)

    def _loaded(self) -> Engine:
        with self._loading:
            if self._closed:
                raise ClosedError("expected an open engine, got one that was closed")
            if self._engine is None:
                engine = self._load()
                try:
                    engine.rates()  # before the first deadline
                except BaseException:
                    engine.close()
                    raise
                self._engine, self._name = engine, engine.files.name
            return self._engine

    def _leave(self) -> None:
        """Free the model where it is not wanted any more and nothing is under way."""
        if self._wanted and not self._closed:
            return
        with self._loading:
            if not self._closed and (self._wanted or self._live):
                return
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _start(self, work: Callable[[_Cancel], T]) -> Pending[T]:
        cancel = _Cancel()
        if self._closed:
            raise ClosedError("expected an open engine, got one that was closed")
        self._live.add(cancel)
        self._wanted = True

        def run() -> T:
            try:
                return work(cancel)
            finally:
                self._live.discard(cancel)

        future: Future[T] = self._waiters.submit(run)
        future.add_done_callback(lambda _: self._leave())
        return Pending(future, cancel)


class _Cancel:
    """One window's change of mind, wherever in it the work is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = False
        self._stop: Callable[[], None] | None = None

    def __call__(self) -> None:
        with self._lock:
            self._wanted = True
            stop = self._stop
        if stop is not None:
            stop()

    def result(self, request: Request[T]) -> T:
        """Wait for a stage of the work, which can be stopped meanwhile."""
        with self._lock:
            self._stop = request.interrupt.cancel
            wanted = self._wanted
        if wanted:
            request.interrupt.cancel()
        return request.result()


def _together(look: Timings, ask: Timings) -> Timings:
    """Seconds of an answer with those of its look."""
    looked = sum(filter(None, (look.video_s, look.vision_s, look.prefill_s)))
    first = ask.first_token_s
    return replace(
        ask,
        video_s=look.video_s,
        vision_s=look.vision_s,
        prefill_s=(look.prefill_s or 0.0) + (ask.prefill_s or 0.0),
        first_token_s=None if first is None else looked + first,
        total_s=looked + (ask.total_s or 0.0),
        predicted_s=both(look.predicted_s, ask.predicted_s),
    )


def _ignore(_: Piece) -> None:
    pass
