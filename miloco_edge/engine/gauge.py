"""Measures how long a loaded model takes, for `rates_of` to be fitted to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine.rates import Figure
from miloco_edge.llama import TOKEN_PIXELS, Context, VisionEncoder
from miloco_edge.video.resize import resize

_SOURCE = (1280, 720)
_SHOWN = (448, 252)


@dataclass(frozen=True)
class Thoroughness:
    """How much is measured."""

    repeats: int
    sides: tuple[int, ...]
    """Of square patches, in visual tokens."""
    prefills: tuple[int, ...]
    """Tokens at once."""
    tokens: int
    """In a row."""
    depth: int
    """Tokens in the sequence where prefill and tokens are measured again; 0: not."""


QUICK = Thoroughness(repeats=1, sides=(6, 12), prefills=(16, 64), tokens=3, depth=0)
"""A second or two with a model of 7B parameters."""
THOROUGH = Thoroughness(repeats=3, sides=(8, 14, 20), prefills=(16, 64, 256), tokens=8, depth=1024)
"""A minute or two."""


def gauge(context: Context, vision: VisionEncoder, how: Thoroughness) -> list[Figure]:
    """Figures of every stage, within the free cells of the context; what was there stays.

    Every size is run once beforehand where it is measured more than once. Raises ContextFullError
    where not even the shortest prefill fits.
    """
    random = np.random.default_rng(0)
    figures = []
    for side in how.sides:
        shape = (side * TOKEN_PIXELS, side * TOKEN_PIXELS, 3)

        def encode(shape: tuple[int, int, int] = shape) -> None:
            frame = random.integers(0, 256, shape, dtype=np.uint8)
            vision.encode((frame, frame[::-1].copy()))

        figures.append(Figure("vision", side * side, 0, _timed(encode, how.repeats)))
    source = random.integers(0, 256, (_SOURCE[1], _SOURCE[0], 3), dtype=np.uint8)
    seconds = _timed(lambda: resize(source, _SHOWN), max(2, how.repeats))
    figures.append(Figure("resize", _SOURCE[0] * _SOURCE[1], 0, seconds))
    for depth in (0, how.depth) if how.depth else (0,):
        figures += _text(context, how, depth)
    return figures


def _text(context: Context, how: Thoroughness, depth: int) -> list[Figure]:
    """Prefill and tokens in a row, each time from the same depth."""
    free = context.free_cells
    depth = min(depth, free // 2)
    sizes = [n for n in how.prefills if depth + n + how.tokens <= free and n <= context.n_batch]
    sequence = context.new_sequence()
    figures = []
    try:
        if depth:
            context.decode_tokens(sequence, _words(context, depth), 0)
        for n in sizes or how.prefills[:1]:
            words = _words(context, n)

            def prefill(words: NDArray[np.int32] = words) -> None:
                context.decode_tokens(sequence, words, depth)

            undo = _undo(context, sequence, depth, n)
            figures.append(Figure("prefill", n, depth, _timed(prefill, how.repeats, undo)))
        word = _words(context, 1)

        def speak() -> None:
            for i in range(how.tokens):
                context.decode_tokens(sequence, word, depth + i)

        undo = _undo(context, sequence, depth, how.tokens)
        seconds = _timed(speak, max(2, how.repeats), undo)
        figures.append(Figure("token", how.tokens, depth, seconds))
    finally:
        context.drop_sequence(sequence)
    return figures


def _words(context: Context, count: int) -> NDArray[np.int32]:
    """So many tokens of text: (count,) int32."""
    some = context.model.tokenize("The man sits by the window and reads. ", special=False)
    return np.resize(some, count).astype(np.int32)


def _undo(context: Context, sequence: int, position: int, cells: int) -> Callable[[], None]:
    return lambda: context.truncate(sequence, position, cells)


def _timed(
    work: Callable[[], object], repeats: int, after: Callable[[], None] = lambda: None
) -> tuple[float, ...]:
    """Seconds of each time; where there are several, of those after the first."""
    seconds: list[float] = []
    for _ in range(repeats + (repeats > 1)):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
        after()
    return tuple(seconds[-repeats:])


def quick_guess_s(vision: VisionEncoder, how: Thoroughness = QUICK) -> float:
    """About how long `gauge` takes, from the last picture that was encoded."""
    return 3 * sum(vision.predict_seconds(side * side) for side in how.sides)


def shown(figures: Sequence[Figure]) -> list[tuple[str, str, str]]:
    """What was measured, how much of it, and its rate, for people to read."""
    rows = []
    for f in figures:
        if f.stage == "vision":
            row = ("ViT", f"pair of {f.amount} visual tokens", f"{f.median_s:.3f} s")
        elif f.stage == "resize":
            row = ("resize", f"{f.amount / 1e6:.2f} Mpx", f"{f.median_s:.4f} s")
        else:
            name = "prefill" if f.stage == "prefill" else "decode"
            where = f"{f.amount} tokens at depth {f.depth}"
            row = (name, where, f"{f.amount / f.median_s:.1f} tokens/s")
        rows.append(row)
    return rows
