"""What a few noisy samples say, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95
QUANTILES = (0.5, 0.9, 0.95, 0.99)
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval (percentile method, Efron 1979)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Samples in a few figures. A quantile that so few samples do not reach is None.

    Of n samples, 1/n lie above the highest: p90 takes 10 of them, p95 20, p99 100.
    """

    n: int
    min: float
    mean: float
    stdev: float
    p50: Estimate
    p90: Estimate | None
    p95: Estimate | None
    p99: Estimate | None


def summarise(samples: Sequence[float]) -> Summary:
    """Sum samples up; at least one. The same samples give the same intervals."""
    values = np.asarray(samples, np.float64)
    if not len(values):
        raise ValueError("expected at least one sample, got none")
    estimates = [
        quantile(values, q) if q <= 0.5 or len(values) * (1 - q) >= 1 - 1e-9 else None
        for q in QUANTILES
    ]
    median = estimates[0]
    assert median is not None
    return Summary(
        n=len(values),
        min=float(values.min()),
        mean=float(values.mean()),
        stdev=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        p50=median,
        p90=estimates[1],
        p95=estimates[2],
        p99=estimates[3],
    )


def quantile(values: Floats, q: float) -> Estimate:
    """A quantile of (n,) samples (linear between neighbours) and its interval."""
    drawn = np.quantile(_resampled(values), q, axis=1)
    low, high = np.quantile(drawn, _tails())
    return Estimate(float(np.quantile(values, q)), float(low), float(high))


def ratio_of_medians(before: Floats, after: Floats) -> Estimate:
    """median(after) / median(before); both positive."""
    drawn = np.median(_resampled(after, 1), axis=1) / np.median(_resampled(before), axis=1)
    low, high = np.quantile(drawn, _tails())
    return Estimate(float(np.median(after) / np.median(before)), float(low), float(high))


def permutation_p(before: Floats, after: Floats, *, rounds: int = 9999) -> float:
    """How often chance alone moves the mean of the logarithms as far as they differ here.

    Two-sided permutation test; positive samples. The least it can return is 1 / (rounds + 1), and
    2 over the number of ways to split so few samples: 3 against 3 cannot be below 0.1.
    """
    logs = np.log(np.concatenate([before, after]))
    n = len(before)
    seen = abs(logs[:n].mean() - logs[n:].mean())
    random = np.random.default_rng(_SEED)
    shuffled = random.permuted(np.tile(logs, (rounds, 1)), axis=1)
    moved = np.abs(shuffled[:, :n].mean(axis=1) - shuffled[:, n:].mean(axis=1))
    # Sums in another order differ in the last bits.
    return float((1 + (moved >= seen - 1e-12).sum()) / (rounds + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for having asked so many questions at once (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def _resampled(values: Floats, seed: int = _SEED) -> Floats:
    """(RESAMPLES, n): rows of as many samples, drawn with replacement."""
    random = np.random.default_rng(seed)
    return values[random.integers(0, len(values), (RESAMPLES, len(values)))]


def _tails() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
