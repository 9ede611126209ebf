"""A clip that was looked at once and can be asked many times."""

from __future__ import annotations

import math
import queue
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine.answer import Ask, EmitMany, answer_all
from miloco_edge.engine.answer import AskOptions as AskOptions
from miloco_edge.engine.branch import together
from miloco_edge.engine.decide import Decided, DecideOptions, HasText, judge, unknown
from miloco_edge.engine.economy import Savings
from miloco_edge.engine.ground import ground
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.look import Lookout, Prefilled
from miloco_edge.engine.odds import MAX_OUTSIDE_MASS, TIMED_TOKENS, Reader
from miloco_edge.engine.plan import ANSWER_TOKENS as ANSWER_TOKENS
from miloco_edge.engine.plan import THINKING_TOKENS as THINKING_TOKENS
from miloco_edge.engine.plan import Ahead
from miloco_edge.engine.planner import Foreseen, in_groups, interrupt_for
from miloco_edge.engine.stream import AnswerStream
from miloco_edge.engine.worker import Request, Worker
from miloco_edge.errors import ClosedError, EngineError
from miloco_edge.llama import Interrupted
from miloco_edge.prompt import ChatFacts, Text, Turn, question
from miloco_edge.prompt.chat import EMPTY_THINK, END_OF_TURN
from miloco_edge.prompt.decision import SMART_HOME_PREFIX, rule_question
from miloco_edge.prompt.thinking import Piece
from miloco_edge.types import (
    Answer,
    Budget,
    Calibration,
    Decision,
    Sampling,
    Timings,
    Usage,
)
from miloco_edge.video import FittedClip, unusable

T = TypeVar("T")


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
        predicted_s: float | None = None,
    ) -> None:
        self.clip = clip
        self.timings = Timings(
            video_s=fit_s,
            vision_s=prefilled.vision_s,
            prefill_s=prefilled.prefill_s,
            predicted_s=predicted_s,
        )
        self._worker, self._lookout, self._prefilled = worker, lookout, prefilled
        self.sampling = sampling
        self._facts = facts
        self._smart_home, self._calibration = smart_home, calibration
        self._tokens_per_second = tokens_per_second
        self._in_flight: set[Interrupt] = set()
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
    def savings(self) -> Savings | None:
        """What the look at a video did without; None for pictures."""
        return self._prefilled.savings

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
        interrupt = interrupt_for(self._lookout, options.get("budget"))

        def emit_one(_: int, piece: Piece | Answer) -> None:
            if isinstance(piece, Piece):
                emit(piece)

        def work() -> Answer:
            return self._answer([question], options, interrupt, emit_one)[0]

        return self._submit(work, interrupt, urgent=urgent)

    def ask_many(self, questions: Sequence[str], **options: Unpack[AskOptions]) -> list[Answer]:
        """As `ask` for each question, generated side by side: one decode a token for all of them.

        The budget's tokens are each answer's, its seconds are for all together.
        """
        return self.start_ask_many(questions, **options).result()

    def start_ask_many(
        self,
        questions: Sequence[str],
        *,
        emit: EmitMany = lambda number, piece: None,
        **options: Unpack[AskOptions],
    ) -> Request[list[Answer]]:
        """As `ask_many`, without waiting: `emit` is called in the engine's thread."""
        asked = list(questions)
        interrupt = interrupt_for(self._lookout, options.get("budget"))
        return self._submit(lambda: self._answer(asked, options, interrupt, emit), interrupt)

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
        interrupt = interrupt_for(self._lookout, options.get("budget"))
        return self._submit(lambda: self._decide(texts, options, interrupt), interrupt)

    def logits(
        self, question: str, *, continuation: Sequence[int] = (), think: bool = False
    ) -> NDArray[np.float32]:
        """Logits before any sampling: (1 + n, n_vocab) float32.

        The first row is for the answer's first token; the others follow the `continuation`, n
        token ids that are taken for the answer's beginning. Raises EngineError where the scene is
        not whole or `cancel` stops it: there are no logits then.
        """
        interrupt = Interrupt()

        def work() -> NDArray[np.float32]:
            # llama.cpp aborts the process where a sequence is copied that there is not.
            if (stopped := self._prefilled.stopped or interrupt.reason()) is not None:
                raise EngineError(f"expected logits of a whole scene, got none: {stopped}")
            context = self._lookout.context
            suffix = self._suffix(question, think=think)
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
            except Interrupted as error:
                raise EngineError("expected logits, got none: cancelled") from error
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
        in_flight = self._in_flight  # not the scene, which may be forgotten meanwhile
        in_flight.add(interrupt)
        request = self._worker.submit(work, interrupt, urgent=urgent)
        request.future.add_done_callback(lambda _: in_flight.discard(interrupt))
        return request

    def _suffix(
        self, text: str, history: Sequence[Turn] = (), *, think: bool = False
    ) -> NDArray[np.int32]:
        """The tokens between the scene and the answer: (n,) int32."""
        pieces = question(text, history=history, think=think, facts=self._facts)
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
        suffixes = [self._suffix(text) for text in asked]
        reader = Reader(
            self._lookout.context,
            self._lookout.model,
            thinks=self._facts.thinks,
            answer_prefix=SMART_HOME_PREFIX if self._smart_home else "",
        )
        sequence, position = self._prefilled.sequence, self._prefilled.position
        predicted, began = self._predicted_decide_s(suffixes, interrupt), interrupt.clock()
        readings = reader.read(sequence, position, suffixes, interrupt)
        took = interrupt.clock() - began
        calibration = options.get("calibration") or self._calibration
        limit = options.get("max_outside_mass", MAX_OUTSIDE_MASS)
        decisions = tuple(
            judge(rule, reading, calibration, limit)
            for rule, reading in zip(rules, readings, strict=True)
        )
        if predicted is not None and self._lookout.pace is not None and interrupt.reason() is None:
            self._lookout.pace.observe("decide", predicted, took)
        usage = self._usage_with(sum(map(len, suffixes)))
        total_s = time.perf_counter() - started
        timings = Timings(prefill_s=took, total_s=total_s, predicted_s=predicted)
        return Decided(decisions, usage, timings)

    def _predicted_decide_s(
        self, suffixes: Sequence[NDArray[np.int32]], interrupt: Interrupt
    ) -> float | None:
        pace, context = self._lookout.pace, self._lookout.context
        if pace is None:
            return None
        timed = math.isfinite(interrupt.remaining())
        batch = min(TIMED_TOKENS, context.n_batch) if timed else context.n_batch
        return pace.now().decide_s(together(suffixes), self._prefilled.tokens, batch=batch)

    def _answer(
        self, questions: Sequence[str], options: AskOptions, interrupt: Interrupt, emit: EmitMany
    ) -> list[Answer]:
        stopped = self._prefilled.stopped or interrupt.reason()
        if stopped is not None:
            none = Timings(total_s=0.0)
            unsaid = [Answer(text, "", None, stopped, self.usage, none) for text in questions]
            for number, answer in enumerate(unsaid):
                emit(number, answer)
            return unsaid
        budget = options.get("budget") or Budget()
        think = options.get("think", False) and self._facts.thinks
        suffixes = [
            self._suffix(text, options.get("history", ()), think=think) for text in questions
        ]
        ahead = Ahead(
            question_tokens=in_groups(suffixes),
            questions=len(questions),
            thinking_tokens=_default(budget.thinking_tokens, THINKING_TOKENS) if think else 0,
            answer_tokens=_default(budget.answer_tokens, ANSWER_TOKENS),
        )
        foreseen = Foreseen.of(self._lookout, ahead, self._prefilled.tokens, interrupt)
        asks = [
            Ask(
                text,
                suffix,
                self._usage_with(len(suffix)),
                think=think,
                thinking_tokens=foreseen.thinking_tokens,
                answer_tokens=ahead.answer_tokens,
                sampling=options.get("sampling") or self.sampling,
                top_logprobs=options.get("top_logprobs", 0),
                stop=options.get("stop", ()),
                token_s=foreseen.token_s,
            )
            for text, suffix in zip(questions, suffixes, strict=True)
        ]
        answers = answer_all(
            self._lookout.context,
            self._prefilled.sequence,
            self._prefilled.position,
            asks,
            interrupt=interrupt,
            ground=lambda text: ground(text, self.clip, self._tokens_per_second),
            emit=emit,
            told=foreseen.told,
        )
        foreseen.learn_from(answers, self._lookout)
        return answers

    def _usage_with(self, suffix: int) -> Usage:
        """What a prompt costs: the first pays for the look, the next find it in the cache."""
        cached = self._prefilled.tokens if self._asked else self._prefilled.cached_tokens
        self._asked = True
        prompt = self._prefilled.tokens + suffix
        return replace(self.usage, prompt_tokens=prompt, cached_tokens=cached)


def _release(worker: Worker, lookout: Lookout, prefilled: Prefilled) -> None:
    if prefilled.stopped is None:
        worker.before_next(lambda: lookout.context.drop_sequence(prefilled.sequence))


def _default(value: int | None, default: int) -> int:
    return default if value is None else value
