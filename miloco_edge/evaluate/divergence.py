"""How far one distribution over the next token is from another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Divergence:
    """KL(reference || candidate) in nats over many positions, and how often the best token is one.

    The 99th percentile shows what a mean hides: the few positions where quantization hurts.
    """

    positions: int
    mean_kl: float
    kl_99: float
    top1: float


def kl(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(reference || candidate) of log probabilities (n, n_vocab): (n,), in nats."""
    return np.asarray((np.exp(reference) * (reference - candidate)).sum(axis=-1))


def summarise(divergences: NDArray[np.float64], agree: NDArray[np.bool_]) -> Divergence:
    """Sum up KLs (n,) and agreements (n,)."""
    return Divergence(
        positions=len(divergences),
        mean_kl=float(divergences.mean()),
        kl_99=float(np.quantile(divergences, 0.99)),
        top1=float(agree.mean()),
    )


def f1(predicted: list[bool], actual: list[bool]) -> float:
    """F1 of yes; 0 where there is nothing to find and nothing was found."""
    hits = sum(p and a for p, a in zip(predicted, actual, strict=True))
    return 2 * hits / max(1, sum(predicted) + sum(actual))
