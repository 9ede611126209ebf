"""Yes or no by the odds: many rules on one scene, read off logits.

Every rule is a suffix on a copy of the scene's sequence, as many together as one decode takes. The
model is never sampled: what counts is the mass on the words for yes and for no.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine.branch import (
    Branch,
    Tokens,
    common,
    decode,
    fitting,
    share,
    together,
)
from miloco_edge.engine.interrupt import Interrupt, Stopped
from miloco_edge.errors import NonFiniteError
from miloco_edge.llama import Context, Interrupted, Run, TextModel, log_softmax
from miloco_edge.prompt.chat import EMPTY_THINK
from miloco_edge.prompt.decision import WORDS, spellings
from miloco_edge.prompt.thinking import OPEN
from miloco_edge.types import DecisionPath

MAX_OUTSIDE_MASS = 0.5
"""With more mass on other words than on yes and no together, the answer is unknown."""
TIMED_TOKENS = 128
"""Tokens of one decode under a deadline, so that the first rules are answered if not the last."""
_LIKELY = 0.02
"""A beginning that is less likely than this is not followed to tell yes from no."""

Path = tuple[int, ...]


class AnswerTokens:
    """The words for yes and no as this vocabulary spells them after a forced prefix."""

    def __init__(self, tokenize: Callable[[str], NDArray[np.int32]], prefix: str = "") -> None:
        before = tuple(tokenize(prefix).tolist()) if prefix else ()
        self.ends: dict[Path, bool] = {}
        """Whether a word means yes."""
        for verdict in WORDS:
            paths = (tuple(tokenize(prefix + word).tolist()) for word in spellings(verdict))
            for path in paths:
                # A word that melts into the prefix cannot be the next token.
                if path[: len(before)] == before and len(path) > len(before):
                    self.ends[path[len(before) :]] = verdict == "yes"
        # What goes on from a shorter word is counted there.
        self.ends = {
            path: yes
            for path, yes in self.ends.items()
            if not any(path[:n] in self.ends for n in range(1, len(path)))
        }
        self.beginnings = {path[:n] for path in self.ends for n in range(1, len(path))}


@dataclass
class Reading:
    """What the model's odds say of one rule."""

    yes: float = 0.0
    """Mass on the words for yes."""
    no: float = 0.0
    path: DecisionPath = "logits"
    failed: str | None = "unread"
    """Why the masses do not count; None once all of them have been read."""
    ambiguous: list[tuple[Path, float]] = field(default_factory=list)
    """Likely beginnings of words that have not been followed yet, with their probability."""


class Reader:
    """Reads yes and no off a context, for one way to begin answers. Used by one thread."""

    def __init__(
        self, context: Context, model: TextModel, *, thinks: bool, answer_prefix: str = ""
    ) -> None:
        self._context = context
        self._words = AnswerTokens(lambda text: model.tokenize(text, special=False), answer_prefix)
        self._prefix = model.tokenize(answer_prefix, special=False)
        # After a prefix there is no room for a thought.
        self._forestalls = thinks and not answer_prefix
        self._empty_think = model.tokenize(EMPTY_THINK, special=True)
        tags = (OPEN, EMPTY_THINK, OPEN[0])
        self._thoughts = sorted({int(model.tokenize(tag, special=True)[0]) for tag in tags})

    def read(
        self, sequence: int, position: int, suffixes: Sequence[Tokens], interrupt: Interrupt
    ) -> list[Reading]:
        """The odds after each suffix, (n,) int32, of a sequence that goes on at `position`.

        What was read before the time ran out stays. Raises ContextFullError if not even one
        suffix fits.
        """
        readings = [Reading() for _ in suffixes]
        whole = [np.concatenate([suffix, self._prefix]) for suffix in suffixes]
        try:
            with interrupt.armed(self._context.abort):
                self._read(sequence, position, whole, readings, interrupt)
        except (Interrupted, Stopped):
            reason = interrupt.reason() or "cancelled"
            for reading in readings:
                if reading.failed == "unread":
                    reading.failed = reason
        return readings

    def _read(
        self,
        base: int,
        position: int,
        suffixes: list[Tokens],
        readings: list[Reading],
        interrupt: Interrupt,
    ) -> None:
        """Group after group; the beginning that all have in common is kept between groups."""
        context = self._context
        most = context.n_batch
        if math.isfinite(interrupt.remaining()):
            most = min(most, TIMED_TOKENS)
        shared = min(common(suffixes), min(map(len, suffixes)) - 1)
        count = self._together(suffixes, most)
        if count == len(suffixes) or shared == 0:
            trunk = None
        else:
            trunk = context.new_sequence(copy_of=base)
        try:
            keep = None if trunk is None else Branch(trunk, suffixes[0][:shared])
            self._read_group(base, position, suffixes[:count], readings, most, interrupt, keep)
            if trunk is not None:
                base, position = trunk, position + shared
                suffixes = [suffix[shared:] for suffix in suffixes]
            while count < len(suffixes):
                begin = count
                interrupt.check()
                count += self._together(suffixes[begin:], most)
                group = suffixes[begin:count]
                self._read_group(base, position, group, readings[begin:], most, interrupt)
        finally:
            if trunk is not None:
                context.drop_sequence(trunk)

    def _together(self, suffixes: Sequence[Tokens], most: int) -> int:
        """How many of the suffixes go into the cache together, with an empty thought each."""
        suffixes = suffixes[: max(1, self._context.free_sequences - 2)]
        thoughts = len(suffixes) * len(self._empty_think)
        cells = self._context.make_room(min(most, together(suffixes)) + thoughts) - thoughts
        return fitting(suffixes, min(most, cells))

    def _read_group(
        self,
        base: int,
        position: int,
        suffixes: list[Tokens],
        readings: list[Reading],
        most: int,
        interrupt: Interrupt,
        keep: Branch | None = None,
    ) -> None:
        """Suffixes that are in the cache together; `keep` gets the beginning they share."""
        context = self._context
        sequences: list[int] = []
        try:
            for _ in suffixes:
                sequences.append(context.new_sequence(copy_of=base))
            branches = [Branch(s, t) for s, t in zip(sequences, suffixes, strict=True)]
            # What is shared is charged to the first, which must be the last to go.
            kept = [keep] if keep else []
            runs, ends = share([*kept, *branches], position, most)
            ends = ends[len(kept) :]
            thinking: list[int] = []
            for run, place in decode(context, runs, most, interrupt.check):
                for i in (i for i, end in enumerate(ends) if end == run):
                    if self._take(readings[i], place):
                        thinking.append(i)
            after = [position + len(suffix) for suffix in suffixes]
            empty = [Run((sequences[i],), self._empty_think, after[i]) for i in thinking]
            for run, place in decode(context, empty, context.n_batch, interrupt.check):
                i = thinking[run]
                readings[i].path = "forced"
                self._take(readings[i], place)
                after[i] += len(self._empty_think)
            for i, sequence in enumerate(sequences):
                self._follow(readings[i], sequence, after[i], interrupt)
        finally:
            for sequence in sequences:
                context.drop_sequence(sequence)

    def _take(self, reading: Reading, place: int) -> bool:
        """Read the first token of an answer; whether the model is about to think instead."""
        try:
            odds = np.exp(log_softmax(self._context.logits_at(place)))
        except NonFiniteError:
            reading.failed = "nan"
            return False
        reading.yes = reading.no = 0.0
        self._count(reading, odds, (), 1.0)
        known = reading.yes + reading.no + sum(weight for _, weight in reading.ambiguous)
        outside = 1 - known
        thinks = outside > MAX_OUTSIDE_MASS and odds[self._thoughts].sum() > outside / 2
        if thinks and self._forestalls and reading.path != "forced":
            reading.ambiguous.clear()
            return True
        if not reading.ambiguous:
            reading.failed = None
        return False

    def _follow(self, reading: Reading, sequence: int, position: int, interrupt: Interrupt) -> None:
        """Go along the words whose first token does not tell yes from no, or is only a part."""
        if reading.failed != "unread":
            return
        while reading.ambiguous:
            interrupt.check()
            path, weight = reading.ambiguous.pop()
            copy = self._context.new_sequence(copy_of=sequence)
            try:
                logits = self._context.decode_tokens(copy, np.array(path, np.int32), position)
            except NonFiniteError:
                reading.failed = "nan"
                return
            finally:
                self._context.drop_sequence(copy)
            self._count(reading, np.exp(log_softmax(logits)), path, weight)
            if reading.path == "logits":
                reading.path = "grammar"
        reading.failed = None

    def _count(
        self, reading: Reading, odds: NDArray[np.float64], path: Path, weight: float
    ) -> None:
        """Add the mass of words that end one token after `path`; note those that go on."""
        n = len(path) + 1
        for word, yes in self._words.ends.items():
            if len(word) == n and word[:-1] == path:
                if yes:
                    reading.yes += weight * float(odds[word[-1]])
                else:
                    reading.no += weight * float(odds[word[-1]])
        for word in self._words.beginnings:
            likely = weight * float(odds[word[-1]])
            if len(word) == n and word[:-1] == path and likely >= _LIKELY:
                reading.ambiguous.append((word, likely))
