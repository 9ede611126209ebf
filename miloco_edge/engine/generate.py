"""From a prefilled prompt to text: sampling, thinking budget, deadline."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps
from dataclasses import dataclass, replace

import numpy as np

from miloco_edge.engine.branch import Tokens
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.llama import Context, Interrupted, Sampler, TextModel, token_logprob
from miloco_edge.prompt.chat import CLOSE_THINK, EMPTY_THINK
from miloco_edge.prompt.stops import StopStrings
from miloco_edge.prompt.thinking import Piece, ThinkParser
from miloco_edge.types import FinishReason, Sampling, TagWriter, TokenLogprob

Emit = Callable[[Piece], None]

# A thought is closed early enough for an answer of this length before the deadline.
_ANSWER_RESERVE_TOKENS = 32


@dataclass(frozen=True)
class Generation:
    """What was generated after a prompt."""

    text: str
    thinking: str | None
    finish_reason: FinishReason
    thinking_tokens: int
    completion_tokens: int
    """All tokens that were sampled, thinking included; forced ones are not counted."""
    logprobs: tuple[TokenLogprob, ...]
    first_token_at: float | None
    """time.perf_counter() when the first token was chosen."""
    thinking_opened_by: TagWriter | None
    thinking_closed_by: TagWriter | None


class Generator:
    """One answer under way in one sequence of the context; others may be under way beside it."""

    def __init__(
        self,
        context: Context,
        sequence: int,
        position: int,
        *,
        sampling: Sampling,
        think: bool,
        thinking_tokens: int,
        answer_tokens: int,
        top_logprobs: int,
        interrupt: Interrupt,
        emit: Emit,
        stop: Sequence[str] = (),
        token_s: float = 0.0,
    ) -> None:
        self._context, self.sequence = context, sequence
        self._prompt_end = self.position = position
        self._sampling = sampling
        self._think = think
        self._thinking_budget, self._answer_budget = thinking_tokens, answer_tokens
        self._top_logprobs = top_logprobs
        self._interrupt = interrupt
        self._emit = emit
        self._stop = stop
        self._taken_back = False
        self._restart(think=think)
        self._token_seconds = token_s
        self._first_token_at: float | None = None
        self._sampled = 0

    def run(self, place: int) -> Steps[Tokens, int, Generation]:
        """Generate until the model ends its turn, a budget is used up, or the caller stops it.

        `place` is where the last decode holds the logits of the prompt's last token. Yields the
        tokens that are to be decoded next in its sequence and is sent the place of the last of
        them, or thrown Interrupted.
        """
        self._place = place
        finish: FinishReason = "stop"
        # The grammar binds the answer; thoughts are free. One that does not parse raises first.
        answer = Sampler(self._context.model, self._sampling)
        thought = Sampler(self._context.model, replace(self._sampling, grammar=None))
        try:
            if self._think and self._thinking_budget == 0:
                yield from self._force(EMPTY_THINK)
            finish = yield from self._loop(thought, answer)
        except Interrupted:
            finish = self._interrupt.reason() or "cancelled"
        finally:
            thought.close()
            answer.close()
        self._say(self._parser.feed(self._utf8.decode(b"", final=True)))
        thinking, text, pieces = self._parser.finish()
        self._say(pieces)
        if held := self._stops.finish():
            self._emit(Piece(held))
        return Generation(
            self._stops.cut(text),
            thinking,
            finish,
            self._thinking_tokens if self._parser.opened else 0,
            self._sampled,
            tuple(self._logprobs),
            self._first_token_at,
            "model" if self._taken_back else self._parser.opened_by,
            self._parser.closed_by,
        )

    def _loop(self, thought: Sampler, answer: Sampler) -> Steps[Tokens, int, FinishReason]:
        model = self._context.model
        while True:
            if (reason := self._interrupt.reason()) is not None:
                return reason
            thinking = self._parser.in_thinking
            logits = self._context.logits_at(self._place)
            token = (thought if thinking else answer).sample(self._context, self._place)
            self._sampled += 1
            if self._first_token_at is None:
                self._first_token_at = time.perf_counter()
            if self._top_logprobs and not thinking:
                self._logprobs.append(token_logprob(model, logits, token, self._top_logprobs))
            if model.ends_generation(token):
                if thinking and self._parser.opened:
                    yield from self._force(CLOSE_THINK)  # it thought, and ended without an answer
                    continue
                return "stop"
            self._say(self._parser.feed(self._utf8.decode(model.piece(token))))
            if self._stops.found:
                return "stop"
            if self._parser.unwanted:
                yield from self._rewind_unwanted_thought()
                continue
            if thinking:
                self._thinking_tokens += 1
            else:
                self._answer_tokens += 1
            if self._parser.in_thinking and self._must_close():
                yield from self._decode(np.array([token], np.int32))
                yield from self._force(CLOSE_THINK)
            elif self._answer_tokens >= self._answer_budget:
                return "length"
            elif not self._interrupt.has_time(self._token_seconds):
                return "deadline"  # what there is, in time, instead of one more token too late
            else:
                yield from self._decode(np.array([token], np.int32))

    def _must_close(self) -> bool:
        reserve = self._token_seconds * min(self._answer_budget, _ANSWER_RESERVE_TOKENS)
        spent = self._thinking_tokens >= self._thinking_budget
        return spent or not self._interrupt.has_time(reserve)

    def _rewind_unwanted_thought(self) -> Steps[Tokens, int, None]:
        """The model thinks under /no_think: take it back and let it answer after an empty think."""
        cells = self.position - self._prompt_end
        self._context.truncate(self.sequence, self._prompt_end, cells)
        self.position = self._prompt_end
        self._taken_back = True
        self._restart(think=False)
        yield from self._force(EMPTY_THINK)

    def _restart(self, *, think: bool) -> None:
        self._parser = ThinkParser(think=think)
        self._stops = StopStrings(self._stop)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._thinking_tokens = self._answer_tokens = 0
        self._logprobs: list[TokenLogprob] = []

    def _force(self, text: str) -> Steps[Tokens, int, None]:
        """Put words into the model's mouth."""
        yield from self._decode(self._context.model.tokenize(text, special=True))
        self._say(self._parser.feed(text, by="engine"))

    def _decode(self, tokens: Tokens) -> Steps[Tokens, int, None]:
        started = time.perf_counter()
        self._place = yield tokens
        self.position += len(tokens)
        if len(tokens) == 1:
            self._token_seconds = time.perf_counter() - started

    def _say(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if piece.thinking:
                self._emit(piece)
            elif shown := self._stops.feed(piece.text):
                self._emit(Piece(shown))


def cells_needed(
    model: TextModel, prompt: int, *, think: bool, thinking_tokens: int, answer_tokens: int
) -> int:
    """KV cells that a prompt of `prompt` tokens and its answer may fill at most."""
    forced = len(model.tokenize(EMPTY_THINK + CLOSE_THINK, special=True))
    return prompt + answer_tokens + forced + (thinking_tokens if think else 0)
