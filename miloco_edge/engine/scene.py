"""A clip that was looked at once and can be asked many times."""

from __future__ import annotations

import queue
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, TypedDict, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine.decide import MAX_OUTSIDE_MASS, Reader, judge, unknown
from miloco_edge.engine.generate import Generation, Generator, cells_needed
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.look import Lookout, Prefilled
from miloco_edge.engine.worker import Request, Worker
from miloco_edge.errors import ClosedError
from miloco_edge.llama import Interrupted
from miloco_edge.prompt import ChatFacts, Text, Turn, question, temporal_step
from miloco_edge.prompt.chat import EMPTY_THINK, END_OF_TURN, Language
from miloco_edge.prompt.decision import SMART_HOME_PREFIX, rule_question
from miloco_edge.prompt.grounding import Grounding, parse_grounding
from miloco_edge.prompt.thinking import Piece
from miloco_edge.types import (
    Answer,
    Budget,
    Calibration,
    Decision,
    Sampling,
    Span,
    Timings,
    Usage,
)
from miloco_edge.video import FittedClip, unusable

T = TypeVar("T")

ANSWER_TOKENS = 512
THINKING_TOKENS = 1024


@dataclass(frozen=True)
class Ask:
    """A question and how to answer it."""

    question: str
    budget: Budget
    history: tuple[Turn, ...]
    think: bool
    sampling: Sampling
    top_logprobs: int


class AskOptions(TypedDict, total=False):
    """How to answer."""

    budget: Budget | None
    """Answer tokens, thinking tokens and seconds of this answer."""
    history: Sequence[Turn]
    """Earlier turns of a conversation about the same scene."""
    think: bool
    """Let the model think first; by default it answers at once (/no_think)."""
    sampling: Sampling | None
    """Defaults to the scene's."""
    top_logprobs: int
    """Report that many candidates for each token of the answer (not of the thinking)."""


class DecideOptions(TypedDict, total=False):
    """How to decide."""

    budget: Budget | None
    """Seconds for all rules together; what is not read by then is unknown."""
    language: Language | None
    """Language of the question around each rule; the rule's own by default."""
    as_written: bool
    """The rules are whole questions: ask them as they are."""
    live: bool
    """The clip is a window of a live camera: pictures that are all the same are a frozen one."""
    max_outside_mass: float
    """Unknown above this mass of words that are neither yes nor no."""
    calibration: Calibration | None
    """Instead of the model's own; `Calibration()` leaves the odds as they are."""


class HasText(Protocol):
    """A rule that knows more than its sentence."""

    @property
    def text(self) -> str:
        """The sentence."""
        ...


@dataclass(frozen=True)
class Decided:
    """Decisions and what they cost together."""

    decisions: tuple[Decision, ...]
    """In the order of the rules."""
    usage: Usage
    timings: Timings

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.decisions)


class AnswerStream:
    """The pieces of an answer as they come; `answer` is the whole once they have all come."""

    def __init__(self, request: Request[Answer], pieces: queue.SimpleQueue[Piece | None]) -> None:
        self._request, self._pieces = request, pieces

    def __iter__(self) -> Iterator[Piece]:
        """Yield pieces; leaving the loop early cancels the rest."""
        finished = False
        try:
            while (piece := self._pieces.get()) is not None:
                yield piece
            finished = True
            self._request.result()
        finally:
            if not finished:
                self._request.interrupt.cancel()

    def cancel(self) -> None:
        """Stop generating, from any thread; the answer so far stays available."""
        self._request.interrupt.cancel()

    @property
    def answer(self) -> Answer:
        """The whole answer; waits for it."""
        return self._request.result()


class Scene:
    """A clip in the KV cache. Close it, or use it as a context manager, to free its cells.

    A scene whose time ran out before it was whole answers with `finish_reason` "deadline" and no
    text: never a guess.
    """

    def __init__(
        self,
        worker: Worker,
        lookout: Lookout,
        prefilled: Prefilled,
        clip: FittedClip | None,
        *,
        facts: ChatFacts,
        sampling: Sampling,
        smart_home: bool,
        calibration: Calibration,
        tokens_per_second: float,
        fit_s: float,
    ) -> None:
        self.clip = clip
        self.timings = Timings(
            video_s=fit_s, vision_s=prefilled.vision_s, prefill_s=prefilled.prefill_s
        )
        self._worker, self._lookout, self._prefilled = worker, lookout, prefilled
        self.sampling = sampling
        self._facts = facts
        self._smart_home, self._calibration = smart_home, calibration
        self._tokens_per_second = tokens_per_second
        self._in_flight: weakref.WeakSet[Interrupt] = weakref.WeakSet()
        self._asked = False
        # A scene that is forgotten rather than closed gives its cells back all the same.
        self._release = weakref.finalize(self, _release, worker, lookout, prefilled)
        self._release.atexit = False

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def usage(self) -> Usage:
        """What looking cost: tokens of the prompt up to the end of the media."""
        return Usage(
            prompt_tokens=self._prefilled.tokens,
            visual_tokens=self._prefilled.visual_tokens,
            cached_tokens=self._prefilled.cached_tokens,
        )

    @property
    def complete(self) -> bool:
        """Whether the whole clip was looked at before the deadline."""
        return self._prefilled.stopped is None

    def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer a question about the scene. Only its own tokens are new; the rest is cached.

        Raises ContextFullError if prompt and budgets do not fit, ClosedError after `close`.
        """
        return self.start_ask(question, **options).result()

    def stream(self, question: str, **options: Unpack[AskOptions]) -> AnswerStream:
        """As `ask`, with the pieces of text as they come."""
        pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        request = self.start_ask(question, emit=pieces.put, **options)
        request.future.add_done_callback(lambda _: pieces.put(None))
        return AnswerStream(request, pieces)

    def start_ask(
        self,
        question: str,
        *,
        emit: Callable[[Piece], None] = lambda _: None,
        urgent: bool = False,
        **options: Unpack[AskOptions],
    ) -> Request[Answer]:
        """As `ask`, without waiting: `emit` is called in the engine's thread.

        An urgent one overtakes: it is put between two slices of a look or a decision under way.
        """
        ask = Ask(
            question,
            options.get("budget") or Budget(),
            tuple(options.get("history", ())),
            options.get("think", False) and self._facts.thinks,
            options.get("sampling") or self.sampling,
            options.get("top_logprobs", 0),
        )
        interrupt = Interrupt(ask.budget.seconds)
        return self._submit(lambda: self._answer(ask, interrupt, emit), interrupt, urgent=urgent)

    def decide(
        self, rules: Sequence[str | HasText], **options: Unpack[DecideOptions]
    ) -> list[Decision]:
        """Whether each rule ("Someone is reading") holds, from the odds of yes and no.

        All rules are decoded together, and what their questions have in common once. Raises
        ContextFullError if not even one rule fits, ClosedError after `close`.
        """
        return list(self.start_decide(rules, **options).result().decisions)

    def start_decide(
        self, rules: Sequence[str | HasText], **options: Unpack[DecideOptions]
    ) -> Request[Decided]:
        """As `decide`, without waiting."""
        texts = [rule if isinstance(rule, str) else rule.text for rule in rules]
        interrupt = Interrupt((options.get("budget") or Budget()).seconds)
        return self._submit(lambda: self._decide(texts, options, interrupt), interrupt)

    def logits(
        self, question: str, *, continuation: Sequence[int] = (), think: bool = False
    ) -> NDArray[np.float32]:
        """Logits before any sampling: (1 + n, n_vocab) float32.

        The first row is for the answer's first token; the others follow the `continuation`, n
        token ids that are taken for the answer's beginning.
        """
        interrupt = Interrupt()

        def work() -> NDArray[np.float32]:
            context = self._lookout.context
            suffix = self._suffix(Ask(question, Budget(), (), think, Sampling(), 0))
            position = self._prefilled.position
            sequence = context.new_sequence(copy_of=self._prefilled.sequence)
            try:
                with interrupt.armed(context.abort):
                    rows = context.decode_tokens(sequence, suffix, position)[None]
                    if len(continuation):
                        tokens = np.array(continuation, np.int32)
                        after = context.decode_every(sequence, tokens, position + len(suffix))
                        rows = np.concatenate([rows, after])
                    return rows
            finally:
                context.drop_sequence(sequence)

        return self._submit(work, interrupt).result()

    def read(self, question: str, answer: str) -> None:
        """Decode a question and a given answer, without thinking; nothing is generated or kept."""
        empty = EMPTY_THINK if self._facts.thinks else ""
        pieces = [Text(empty, special=True), Text(answer), Text(END_OF_TURN, special=True)]
        self.logits(question, continuation=self._lookout.tokenize(pieces).tolist())

    def cancel(self) -> None:
        """Stop every question in flight, from any thread; the scene goes on."""
        for interrupt in list(self._in_flight):
            interrupt.cancel()

    def close(self) -> None:
        """Give the scene's cells back; a second call does nothing."""
        self.cancel()
        self._release()

    def _submit(
        self, work: Callable[[], T], interrupt: Interrupt, *, urgent: bool = False
    ) -> Request[T]:
        if not self._release.alive:
            raise ClosedError("expected an open scene, got one that was closed")
        self._in_flight.add(interrupt)
        return self._worker.submit(work, interrupt, urgent=urgent)

    def _suffix(self, ask: Ask) -> NDArray[np.int32]:
        pieces = question(ask.question, history=ask.history, think=ask.think, facts=self._facts)
        pending = [Text(self._prefilled.pending, special=True)]
        return self._lookout.tokenize(pending + pieces)

    def _decide(
        self, rules: Sequence[str], options: DecideOptions, interrupt: Interrupt
    ) -> Decided:
        started = time.perf_counter()
        reason: str | None = self._prefilled.stopped or interrupt.reason()
        if reason is None and self.clip is not None:
            reason = unusable(self.clip.frames, live=options.get("live", False))
        if reason is not None or not rules:
            total = Timings(total_s=time.perf_counter() - started)
            return Decided(tuple(unknown(rule, reason or "") for rule in rules), self.usage, total)
        language = options.get("language")
        asked = [
            rule if options.get("as_written") else rule_question(rule, language) for rule in rules
        ]
        suffixes = [self._suffix(Ask(text, Budget(), (), False, Sampling(), 0)) for text in asked]
        reader = Reader(
            self._lookout.context,
            self._lookout.model,
            thinks=self._facts.thinks,
            answer_prefix=SMART_HOME_PREFIX if self._smart_home else "",
        )
        sequence, position = self._prefilled.sequence, self._prefilled.position
        readings = reader.read(sequence, position, suffixes, interrupt)
        self._asked = True
        calibration = options.get("calibration") or self._calibration
        limit = options.get("max_outside_mass", MAX_OUTSIDE_MASS)
        decisions = tuple(
            judge(rule, reading, calibration, limit)
            for rule, reading in zip(rules, readings, strict=True)
        )
        took = time.perf_counter() - started
        prompt = self._prefilled.tokens + sum(map(len, suffixes))
        return Decided(
            decisions,
            replace(self.usage, prompt_tokens=prompt),
            Timings(prefill_s=took, total_s=took),
        )

    def _answer(self, ask: Ask, interrupt: Interrupt, emit: Callable[[Piece], None]) -> Answer:
        started = time.perf_counter()
        stopped = self._prefilled.stopped or interrupt.reason()
        if stopped is not None:
            return Answer(ask.question, "", None, stopped, self.usage, Timings(total_s=0.0))
        context = self._lookout.context
        suffix = self._suffix(ask)
        budget = {
            "thinking_tokens": _default(ask.budget.thinking_tokens, THINKING_TOKENS),
            "answer_tokens": _default(ask.budget.answer_tokens, ANSWER_TOKENS),
        }
        context.reserve(cells_needed(self._lookout.model, len(suffix), think=ask.think, **budget))
        # The first answer pays for the look; the next ones find it in the cache.
        cached = self._prefilled.tokens if self._asked else self._prefilled.cached_tokens
        usage = replace(
            self.usage, prompt_tokens=self._prefilled.tokens + len(suffix), cached_tokens=cached
        )
        position = self._prefilled.position
        sequence = context.new_sequence(copy_of=self._prefilled.sequence)
        try:
            with interrupt.armed(context.abort):
                try:
                    context.decode_tokens(sequence, suffix, position)
                except Interrupted:
                    reason = interrupt.reason() or "cancelled"
                    total = time.perf_counter() - started
                    return Answer(ask.question, "", None, reason, usage, Timings(total_s=total))
                prefilled = time.perf_counter()
                self._asked = True
                generation = Generator(
                    context,
                    sequence,
                    position + len(suffix),
                    sampling=ask.sampling,
                    think=ask.think,
                    top_logprobs=ask.top_logprobs,
                    interrupt=interrupt,
                    emit=emit,
                    **budget,
                ).run()
        finally:
            context.drop_sequence(sequence)
        return self._finish(ask, generation, usage, started, prefilled)

    def _finish(
        self, ask: Ask, generation: Generation, usage: Usage, started: float, prefilled: float
    ) -> Answer:
        ended = time.perf_counter()
        first = generation.first_token_at
        grounding = _ground(generation.text, self.clip, self._tokens_per_second)
        return Answer(
            ask.question,
            generation.text,
            generation.thinking,
            generation.finish_reason,
            replace(
                usage,
                thinking_tokens=generation.thinking_tokens,
                completion_tokens=generation.completion_tokens,
            ),
            Timings(
                prefill_s=prefilled - started,
                first_token_s=None if first is None else first - started,
                generate_s=ended - prefilled,
                total_s=ended - started,
            ),
            grounding.boxes,
            grounding.points,
            grounding.spans,
            generation.logprobs if ask.top_logprobs else None,
        )


def _release(worker: Worker, lookout: Lookout, prefilled: Prefilled) -> None:
    if prefilled.stopped is not None:
        return
    # A closed engine has no cells left to give back.
    with suppress(ClosedError):
        worker.submit(lambda: lookout.context.drop_sequence(prefilled.sequence), Interrupt())


def _default(value: int | None, default: int) -> int:
    return default if value is None else value


def _ground(text: str, clip: FittedClip | None, tokens_per_second: float) -> Grounding:
    """What the answer points at, in source pixels and source seconds.

    Boxes and points are taken to speak of the first frame. A temporal patch lasts 2 / fps seconds
    and the model takes it for step / tokens_per_second, which is the same at 2 and at 1 fps.
    """
    if clip is None:
        return Grounding()
    found = parse_grounding(text)
    scale = 2 / clip.fps * tokens_per_second / temporal_step(clip.fps, tokens_per_second)
    start = clip.times_s[0]
    return Grounding(
        tuple(clip.to_source(box) for box in found.boxes),
        tuple(clip.to_source(point) for point in found.points),
        tuple(
            Span(span.label, start + span.start_s * scale, start + span.end_s * scale)
            for span in found.spans
        ),
    )
