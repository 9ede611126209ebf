"""How long work takes on this machine with one model: a few coefficients, fitted to figures.

The ViT attends from every patch to every other, so its time has a part that grows with the square
of the tokens. A call of llama.cpp reads all weights once, whatever its tokens; each token then
costs the same, and something more for every token that it attends to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Stage = Literal["resize", "vision", "prefill", "decide", "token"]
Measured = Literal["resize", "vision", "prefill", "token"]


@dataclass(frozen=True)
class Figure:
    """Something that was measured."""

    stage: Measured
    amount: int
    """Pixels of the source, visual tokens of one patch, tokens of one prefill, tokens in a row."""
    depth: int
    """Tokens that were in the sequence before."""
    seconds: tuple[float, ...]
    """Of each time that it was done."""

    @property
    def median_s(self) -> float:
        """Of all times."""
        return float(np.median(self.seconds))


@dataclass(frozen=True)
class Rates:
    """Seconds as a function of work."""

    resize: float
    """Of a pixel of the source."""
    vision: tuple[float, float, float]
    """Of a patch: at all, for each visual token, for each pair of visual tokens."""
    prefill: tuple[float, float, float]
    """Of a call: at all, for each token, for each pair of a token and one that it attends to."""
    token: tuple[float, float]
    """Of a generated token: at all, for each token that it attends to."""
    batch: int
    """Tokens of one call of a prefill at most."""
    decide: float = 1.0
    """A decision's seconds to those of its prefill."""

    def vision_s(self, patches: Iterable[int]) -> float:
        """The ViT on patches of so many visual tokens each."""
        fixed, each, square = self.vision
        return sum(fixed + n * (each + n * square) for n in patches)

    def prefill_s(self, tokens: int, depth: int, *, batch: int | None = None) -> float:
        """Prefill of so many tokens after `depth` others, `batch` at once."""
        if tokens <= 0:
            return 0.0
        call, each, attended = self.prefill
        calls = -(-tokens // min(self.batch, batch or self.batch))
        return calls * call + tokens * (each + attended * (depth + tokens / 2))

    def decide_s(self, tokens: int, depth: int, *, batch: int) -> float:
        """Decisions whose questions have so many tokens together, each common beginning once."""
        return self.decide * self.prefill_s(tokens, depth, batch=batch)

    def tokens_s(self, tokens: int, depth: int, *, beside: int = 1) -> float:
        """So many tokens one after the other, of `beside` answers at the same time."""
        each, attended = self.token
        attending = attended * beside * (depth + tokens / 2)
        return tokens * (each + attending + (beside - 1) * self.prefill[1])

    def scaled(self, factors: Mapping[Stage, float]) -> Rates:
        """The same where each stage takes so many times as long."""

        def times(values: Sequence[float], stage: Stage) -> tuple[float, ...]:
            return tuple(value * factors[stage] for value in values)

        v0, v1, v2 = times(self.vision, "vision")
        p0, p1, p2 = times(self.prefill, "prefill")
        t0, t1 = times(self.token, "token")
        return replace(
            self,
            resize=self.resize * factors["resize"],
            vision=(v0, v1, v2),
            prefill=(p0, p1, p2),
            token=(t0, t1),
            decide=self.decide * factors["decide"] / factors["prefill"],
        )

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> Rates:
        """Of a JSON object. Raises KeyError, TypeError or ValueError for what is none."""
        v0, v1, v2 = map(float, fields["vision"])
        p0, p1, p2 = map(float, fields["prefill"])
        t0, t1 = map(float, fields["token"])
        return cls(
            float(fields["resize"]),
            (v0, v1, v2),
            (p0, p1, p2),
            (t0, t1),
            int(fields["batch"]),
            float(fields["decide"]),
        )


def rates_of(figures: Sequence[Figure], batch: int) -> Rates:
    """The rates that fit figures of every stage best, in shares of their seconds."""
    by_stage: dict[str, list[Figure]] = {}
    for figure in figures:
        by_stage.setdefault(figure.stage, []).append(figure)

    def fitted(stage: Measured, rows: list[list[float]]) -> tuple[float, ...]:
        return _fit(np.array(rows, float), np.array([f.median_s for f in by_stage[stage]]))

    # What a picture costs at all comes last: two sizes cannot tell all three.
    v1, v2, v0 = fitted("vision", [[f.amount, f.amount**2, 1] for f in by_stage["vision"]])
    # Two lengths cannot either; whatever else there is, each token costs something.
    p1, p0, p2 = fitted(
        "prefill",
        [
            [f.amount, -(-f.amount // batch), f.amount * (f.depth + f.amount / 2)]
            for f in by_stage["prefill"]
        ],
    )
    t0, t1 = fitted(
        "token",
        [[f.amount, f.amount * (f.depth + f.amount / 2)] for f in by_stage["token"]],
    )
    (resize,) = fitted("resize", [[f.amount] for f in by_stage["resize"]])
    return Rates(resize, (v0, v1, v2), (p0, p1, p2), (t0, t1), batch)


def _fit(rows: NDArray[np.float64], seconds: NDArray[np.float64]) -> tuple[float, ...]:
    """Coefficients of no less than 0 with the least squares of relative errors.

    With so few columns every subset can be tried: the best of those without a negative one is what
    Lawson and Hanson's algorithm would find. Of two that are as good, the one with fewer columns,
    and those further left.
    """
    scaled = rows / seconds[:, None]
    best, least = np.zeros(rows.shape[1]), float("inf")
    for size in range(1, min(rows.shape) + 1):
        for columns in combinations(range(rows.shape[1]), size):
            part = scaled[:, columns]
            found, *_ = np.linalg.lstsq(part, np.ones(len(part)))
            error = float(((part @ found - 1) ** 2).sum())
            if (found >= 0).all() and error < least - 1e-9:
                best, least = np.zeros(rows.shape[1]), error
                best[list(columns)] = found
    return tuple(best.tolist())
