"""A video in the KV cache, which may go on: old frame pairs are forgotten, new ones appended.

Each pair has its own temporal position, so that `llama_memory_seq_rm` takes out one and leaves the
others; positions grow and are never shifted, which llama.cpp cannot do for M-RoPE. What stays was
computed when the forgotten pairs were still there and has seen them: an approximation of a new
look (after StreamingVLM, arXiv 2510.09608), and why it is an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.llama import Context
from miloco_edge.prompt import next_position, patch_positions
from miloco_edge.types import RGB, VisualTokens

MOST_REELS = 8
"""Videos that are held to go on with; the oldest is dropped beyond."""

Header = tuple[object, ...]
"""What a reel was laid under (system prompt, rate, size, economy): another one does not fit."""


@dataclass(frozen=True)
class Laid:
    """A frame pair in the cache."""

    index: int
    """Its place in the reel, counting all pairs from the first."""
    cells: int


@dataclass(eq=False)
class Reel:
    """Where a video lies, and what of it."""

    header: Header
    sequence: int
    base: int
    """Position of the video's begin, which is also the number of text tokens before it."""
    step: int
    """Between the temporal positions of neighbouring pairs."""
    size: tuple[int, int]
    """(h, w) of a pair in visual tokens."""
    first: int = 0
    """Index of the window's first pair."""
    keys: tuple[bytes, ...] = ()
    """Contents of the window's pairs, kept or not."""
    laid: list[Laid] = field(default_factory=list)
    last: tuple[RGB, ...] | None = None
    """The pair that was laid last."""

    @property
    def cells(self) -> int:
        """Visual tokens in the cache."""
        return sum(each.cells for each in self.laid)

    @property
    def position(self) -> int:
        """Where text goes on: after the whole of the video, left out pairs included."""
        return next_position(self.base, (self.first + len(self.keys), *self.size), self.step)

    def overlap(self, keys: Sequence[bytes]) -> int:
        """With how many of its pairs a window begins where this one ends."""
        for known in range(min(len(keys), len(self.keys)), 0, -1):
            if tuple(keys[:known]) == self.keys[-known:]:
                return known
        return 0

    def move_to(self, keys: tuple[bytes, ...], known: int, context: Context) -> None:
        """Make a window that begins with the `known` last pairs of this one the reel's.

        A pair stands for those after it that were left out for being like it, so it goes when the
        next one in the cache is old enough to take over.
        """
        self.first += len(self.keys) - known
        self.keys = keys
        while len(self.laid) > 1 and self.laid[1].index <= self.first:
            old = self.laid.pop(0)
            context.remove(self.sequence, self.base + old.index * self.step, old.cells)

    def lay(
        self,
        context: Context,
        indices: Sequence[int],
        seen: Sequence[VisualTokens],
        kept: Sequence[NDArray[np.bool_]],
        interrupt: Interrupt,
    ) -> None:
        """Decode pairs at their places: of the n visual tokens of each those that are `kept`."""
        places = [
            patch_positions(self.base, i, self.size, self.step, visual.grid[1:])[:, of_it]
            for i, visual, of_it in zip(indices, seen, kept, strict=True)
        ]
        embeddings = [visual.embeddings[of_it] for visual, of_it in zip(seen, kept, strict=True)]
        context.decode_visual(
            self.sequence,
            np.concatenate(embeddings),
            np.concatenate(places, axis=1),
            interrupt.check,
        )
        counts = [int(of_it.sum()) for of_it in kept]
        self.laid += [Laid(i, n) for i, n in zip(indices, counts, strict=True) if n]


class Reels:
    """Videos that may go on. Used by the engine's one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: list[Reel] = []

    def take(self, header: Header, keys: Sequence[bytes], most: int) -> tuple[Reel, int] | None:
        """The reel that a window goes on with, and how many of its pairs it has already.

        It is the caller's then. One that would have more than `most` pairs from its first, or
        that an open scene still looks at, is left alone.
        """
        found: tuple[int, Reel] | None = None
        for reel in self._held:
            known = reel.overlap(keys) if reel.header == header else 0
            length = reel.first + len(reel.keys) - known + len(keys)
            fits = length <= most and not self._context.is_shared(reel.sequence)
            if known and fits and (found is None or known > found[0]):
                found = known, reel
        if found is None:
            return None
        self._held.remove(found[1])
        return found[1], found[0]

    def hold(self, reel: Reel) -> None:
        """Keep a reel for the next window."""
        self._held.append(reel)
        if len(self._held) > MOST_REELS:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """Give a reel's cells back; whether there was one."""
        if not self._held:
            return False
        self._context.drop_sequence(self._held.pop(0).sequence)
        return True
