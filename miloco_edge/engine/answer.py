"""Answers in words: several questions about one scene, generated side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Steps
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

from miloco_edge.engine.branch import Branch, Tokens, decode, share
from miloco_edge.engine.generate import Generation, Generator, cells_needed
from miloco_edge.engine.interrupt import Interrupt, StopReason
from miloco_edge.engine.plan import SIDE_BY_SIDE
from miloco_edge.llama import Context, Interrupted, Run
from miloco_edge.prompt import Piece, Turn
from miloco_edge.prompt.grounding import Grounding
from miloco_edge.types import Answer, Budget, Sampling, Timings, Usage

EmitMany = Callable[[int, Piece | Answer], None]
"""Takes the number of a question and a piece of its answer, and at last the whole of it."""


@dataclass(frozen=True, eq=False)
class Ask:
    """A question as tokens, and how to answer it."""

    question: str
    suffix: Tokens
    """(n,) int32: from the end of the scene to where the model begins to speak."""
    usage: Usage
    """What the prompt costs."""
    think: bool
    thinking_tokens: int
    answer_tokens: int
    sampling: Sampling
    top_logprobs: int
    stop: Sequence[str] = ()
    token_s: float = 0.0
    """What one token is thought to take, until one is there to be measured."""


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
    stop: Sequence[str]
    """Texts that end the answer where they would begin."""


def answer_all(
    context: Context,
    base: int,
    position: int,
    asks: Sequence[Ask],
    *,
    interrupt: Interrupt,
    ground: Callable[[str], Grounding],
    emit: EmitMany,
    told: Callable[[Answer], Answer] = lambda answer: answer,
) -> list[Answer]:
    """Answer questions that follow `base`, a sequence that goes on at `position`.

    As many side by side as sequences and cells allow, the others after them, each group with its
    share of the time that is left; each draws its own tokens, as it would alone but for rounding,
    which llama.cpp's kernels do differently for one row and for many.
    `told` is what each whole answer goes through. Raises ContextFullError where one does not fit,
    NonFiniteError.
    """
    started = time.perf_counter()
    answers: list[Answer] = []
    for part in _groups(context, asks):
        later_s = _later_s(len(asks) - part.stop, len(part), interrupt.remaining())
        interrupt.kept_back = partial(float, later_s)
        lines = [
            _Line(context, context.new_sequence(copy_of=base), position, asks[i], interrupt,
                  _emit_of(emit, i))
            for i in part
        ]  # fmt: skip
        try:
            with interrupt.armed(context.abort):
                prefill_s = _generate(context, position, lines)
        finally:
            for line in lines:
                line.close()
        reason = interrupt.reason() or "cancelled"
        for i, line in zip(part, lines, strict=True):
            answers.append(told(line.answer(started, prefill_s / len(lines), reason, ground)))
            emit(i, answers[-1])
    return answers


def _emit_of(emit: EmitMany, number: int) -> Callable[[Piece], None]:
    return lambda piece: emit(number, piece)


def _groups(context: Context, asks: Sequence[Ask]) -> Iterator[range]:
    """Neighbouring questions whose whole answers fit into the free cells together."""
    cells = [
        cells_needed(
            context.model,
            len(ask.suffix),
            think=ask.think,
            thinking_tokens=ask.thinking_tokens,
            answer_tokens=ask.answer_tokens,
        )
        for ask in asks
    ]
    start = 0
    while start < len(asks):
        context.reserve(cells[start])
        stop = start + 1
        most = min(SIDE_BY_SIDE, context.free_sequences, len(asks) - start)
        while stop - start < most and sum(cells[start : stop + 1]) <= context.free_cells:
            stop += 1
        yield range(start, stop)
        start = stop


def _later_s(left: int, beside: int, seconds: float) -> float:
    """What of some seconds is for the questions left, in groups as large as the one before."""
    groups = -(-left // beside)
    return seconds * groups / (groups + 1) if left and math.isfinite(seconds) else 0.0


def _generate(context: Context, position: int, lines: Sequence[_Line]) -> float:
    """Prefill all questions, then decode all answers token by token; seconds of the prefill."""
    began = time.perf_counter()
    branches = [Branch(line.sequence, line.ask.suffix) for line in lines]
    runs, ends = share(branches, position, context.n_batch)
    try:
        busy = 0.0
        for run, place in decode(context, runs, context.n_batch, _go_on):
            for line, end in zip(lines, ends, strict=True):
                if end == run:
                    busy += line.advance(place)
        prefill_s = time.perf_counter() - began - busy
        while live := [line for line in lines if line.pending is not None]:
            began, busy = time.perf_counter(), 0.0
            for run, place in decode(
                context, [line.next_run() for line in live], context.n_batch, _go_on
            ):
                busy += live[run].advance(place)
            for line in live:
                line.seconds += (time.perf_counter() - began - busy) / len(live)
        return prefill_s
    except Interrupted:
        for line in lines:
            line.stop()
        return time.perf_counter() - began


def _go_on() -> None:
    """The generators look at the clock themselves."""


class _Line:
    """One answer in a sequence of its own."""

    def __init__(
        self,
        context: Context,
        sequence: int,
        position: int,
        ask: Ask,
        interrupt: Interrupt,
        emit: Callable[[Piece], None],
    ) -> None:
        self.sequence, self.ask = sequence, ask
        self.pending: Tokens | None = None
        """What is to be decoded next; None before the first token and after the last."""
        self.seconds = 0.0
        """Its share of the time spent generating."""
        self._context = context
        self._generator = Generator(
            context,
            sequence,
            position + len(ask.suffix),
            sampling=ask.sampling,
            think=ask.think,
            thinking_tokens=ask.thinking_tokens,
            answer_tokens=ask.answer_tokens,
            top_logprobs=ask.top_logprobs,
            interrupt=interrupt,
            emit=emit,
            stop=ask.stop,
            token_s=ask.token_s,
        )
        self._steps: Steps[Tokens, int, Generation] | None = None
        self._generation: Generation | None = None
        self._ended = 0.0

    def next_run(self) -> Run:
        """What it wants decoded."""
        assert self.pending is not None
        return Run((self.sequence,), self.pending, self._generator.position)

    def advance(self, place: int) -> float:
        """Choose the next token from the logits at a place; seconds that it took."""
        began = time.perf_counter()
        try:
            if self._steps is None:
                self._steps = self._generator.run(place)
                self.pending = next(self._steps)
            else:
                self.pending = self._steps.send(place)
        except StopIteration as end:
            self._end(end.value)
        took = time.perf_counter() - began
        self.seconds += took
        return took

    def stop(self) -> None:
        """End the answer where it is; one that has not begun stays so."""
        if self._steps is not None and self._generation is None:
            try:
                self._steps.throw(Interrupted())
            except StopIteration as end:
                self._end(end.value)

    def close(self) -> None:
        """Give back what it holds, whether or not it has ended."""
        if self._steps is not None:
            self._steps.close()
        self._context.drop_sequence(self.sequence)

    def _end(self, generation: Generation) -> None:
        self.pending, self._generation = None, generation
        self._ended = time.perf_counter()

    def answer(
        self,
        started: float,
        prefill_s: float,
        reason: StopReason,
        ground: Callable[[str], Grounding],
    ) -> Answer:
        """The whole answer; `reason` is why there is none if it never began."""
        ask, done = self.ask, self._generation
        if done is None:
            total = Timings(total_s=time.perf_counter() - started)
            return Answer(ask.question, "", None, reason, ask.usage, total)
        found = ground(done.text)
        first = done.first_token_at
        return Answer(
            ask.question,
            done.text,
            done.thinking,
            done.finish_reason,
            replace(
                ask.usage,
                thinking_tokens=done.thinking_tokens,
                completion_tokens=done.completion_tokens,
            ),
            Timings(
                prefill_s=prefill_s,
                first_token_s=None if first is None else first - started,
                generate_s=self.seconds,
                total_s=self._ended - started,
            ),
            found.boxes,
            found.points,
            found.spans,
            done.logprobs if ask.top_logprobs else None,
            done.thinking_opened_by,
            done.thinking_closed_by,
        )
