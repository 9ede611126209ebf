"""One visitor's conversation: questions about a look that is kept, and the way to stop them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from miloco_edge import Piece, Turn
from miloco_edge.engine import Scene
from miloco_edge.engine.clock import Clock
from miloco_edge.engine.worker import Request
from miloco_edge.errors import MilocoEdgeError
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.view import Manner, View
from miloco_edge.types import Answer, Budget, FinishReason, Timings
from miloco_edge.video import FittedClip

T = TypeVar("T")

MOST_TURNS = 8
"""Earlier exchanges that a question is asked after."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model was shown, and what that took."""

    clip: FittedClip | None
    timings: Timings
    decode_s: float
    reused: bool
    """It was kept from an earlier question."""


@dataclass(frozen=True, eq=False)
class Exchange:
    """A question and its answer, as far as it has come."""

    question: str
    view: View
    stage: Literal["looking", "answering", "done"] = "looking"
    thinking: str = ""
    text: str = ""
    seen: Seen | None = None
    answer: Answer | None = None
    finish: FinishReason | None = None
    error: MilocoEdgeError | None = None
    total_s: float = 0.0


class Stop:
    """A visitor's wish to stop, wherever the work is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._request: Request[object] | None = None
        self.wanted = False

    def __call__(self) -> None:
        """Stop what runs, and what waits for its turn."""
        with self._lock:
            self.wanted = True
            request = self._request
        if request is not None:
            request.interrupt.cancel()
            request.future.cancel()

    def hand(self, request: Request[T]) -> Request[T]:
        """Take note of the work that is to be stopped from now on."""
        with self._lock:
            self._request = request  # type: ignore[assignment]
            wanted = self.wanted
        if wanted:
            request.interrupt.cancel()
            request.future.cancel()
        return request


class Visit:
    """What one visitor asked, in order. One question at a time; `stop` from any thread."""

    def __init__(self, visitor: str, scenes: Scenes) -> None:
        self.exchanges: tuple[Exchange, ...] = ()
        self._visitor, self._scenes = visitor, scenes
        self._busy = threading.Lock()
        self._stop = Stop()

    def ask(self, view: View, question: str, manner: Manner) -> Iterator[Exchange]:
        """Yield the exchange as it grows; the last one is whole.

        Looks first unless the scene of this view is kept. A second question while one is being
        answered yields nothing.
        """
        budget = Budget(
            manner.answer_tokens, manner.thinking_tokens, manner.deadline_s, view.visual_tokens
        )
        began, clock, stop = time.monotonic(), Clock(budget), Stop()
        if not self._busy.acquire(blocking=False):
            return
        self._stop, before = stop, self.exchanges
        try:
            with self._scenes.in_use(self._visitor):
                for exchange in self._steps(view, question, manner, clock, stop):
                    now = replace(exchange, total_s=time.monotonic() - began)
                    if self._stop is stop:  # else the conversation was cleared meanwhile
                        self.exchanges = (*before, now)
                    yield now
        finally:
            stop()  # where the visitor left in the middle
            self._busy.release()

    def stop(self) -> None:
        """Stop the question that is being answered; what was said so far stays."""
        self._stop()

    def clear(self) -> None:
        """Forget the conversation."""
        self.stop()
        self._stop, self.exchanges = Stop(), ()

    def leave(self) -> None:
        """Forget everything."""
        self.clear()
        self._scenes.drop(self._visitor)

    def _steps(
        self, view: View, question: str, manner: Manner, clock: Clock, stop: Stop
    ) -> Iterator[Exchange]:
        exchange = Exchange(question, view)
        yield exchange
        try:
            scene, seen = self._look(view, clock, stop)
            exchange = replace(exchange, stage="answering", seen=seen)
            yield exchange
            for exchange in self._answer(exchange, scene, manner, clock, stop):  # noqa: B020
                yield exchange
        except CancelledError:
            yield replace(exchange, stage="done", finish="cancelled")
        except MilocoEdgeError as error:
            yield replace(exchange, stage="done", error=error)

    def _look(self, view: View, clock: Clock, stop: Stop) -> tuple[Scene, Seen]:
        if (kept := self._scenes.find(self._visitor, view)) is not None:
            return kept, Seen(kept.clip, Timings(), 0.0, reused=True)
        began = time.monotonic()
        clip = view.read()
        decode_s = time.monotonic() - began

        def look() -> Scene:
            request = self._scenes.engine.start_look(
                clip,
                budget=clock.left(),
                smart_home=view.smart_home,
                language=view.language,
            )
            return stop.hand(request).result()

        scene = self._scenes.with_room(look)
        if scene.complete:
            self._scenes.keep(self._visitor, view, scene)
        return scene, Seen(scene.clip, scene.timings, decode_s, reused=False)

    def _answer(
        self, exchange: Exchange, scene: Scene, manner: Manner, clock: Clock, stop: Stop
    ) -> Iterator[Exchange]:
        pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()

        def ask() -> Request[Answer]:
            request = scene.start_ask(
                exchange.question,
                emit=pieces.put,
                history=self._history(exchange.view),
                think=manner.think,
                budget=clock.left(),
            )
            request.future.add_done_callback(lambda _: pieces.put(None))
            return stop.hand(request)

        request = ask()
        while True:
            while (piece := pieces.get()) is not None:
                if piece.thinking:
                    exchange = replace(exchange, thinking=exchange.thinking + piece.text)
                else:
                    exchange = replace(exchange, text=exchange.text + piece.text)
                yield exchange
            error = None if request.future.cancelled() else request.future.exception()
            if error is None or not self._scenes.make_room_after(error):
                break
            request = ask()
        answer = request.result()
        yield replace(
            exchange,
            stage="done",
            thinking=answer.thinking or "",
            text=answer.text,
            answer=answer,
            finish=answer.finish_reason,
        )

    def _history(self, view: View) -> list[Turn]:
        """Earlier exchanges about the same media, oldest first."""
        return [
            Turn(earlier.question, earlier.text)
            for earlier in self.exchanges
            if earlier.stage == "done" and earlier.text and earlier.view.media == view.media
        ][-MOST_TURNS:]
