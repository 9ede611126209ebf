"""What evaluations count, as functions of numpy arrays.

Definitions are lmms-eval's where it has them (EvolvingLMMs-Lab/lmms-eval: charades_sta/eval_tvg.py,
screenspot/utils_rec.py), else those of the paper that is named. Where a value is not defined, as a
share of nothing, it is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

BINS = 15
"""Of the calibration error (Guo et al. 2017, arXiv 1706.04599)."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Counts:
    """Yes-or-no answers against the truth."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def precision(self) -> float | None:
        """Of the answers yes, the share that is right."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Of the questions whose answer is yes, the share that is found."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """Of yes: the harmonic mean of precision and recall."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the shares of right answers among true yes and among true no."""
        yes, no = ratio(self.tp, self.tp + self.fn), ratio(self.tn, self.tn + self.fp)
        return None if yes is None or no is None else (yes + no) / 2


def ratio(part: float, whole: float) -> float | None:
    """A share; None of nothing."""
    return part / whole if whole else None


def mean(values: Sequence[float] | Floats | Bools) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if len(values) else None


def count(said_yes: Bools, is_yes: Bools) -> Counts:
    """Count answers (n,) against the truth (n,)."""
    return Counts(
        tp=int((said_yes & is_yes).sum()),
        fp=int((said_yes & ~is_yes).sum()),
        fn=int((~said_yes & is_yes).sum()),
        tn=int((~said_yes & ~is_yes).sum()),
    )


def macro_f1(said_yes: Bools, is_yes: Bools, categories: NDArray[np.generic]) -> float | None:
    """The mean of the categories' F1, all (n,); one with nothing to find and nothing found is
    left out."""
    scores = [
        count(said_yes[of], is_yes[of]).f1
        for of in (categories == name for name in np.unique(categories))
    ]
    return mean([score for score in scores if score is not None])


def brier(p_yes: Floats, is_yes: Bools) -> float | None:
    """Mean squared error of p_yes (n,), 0 to 1 (Brier 1950)."""
    return mean((p_yes - is_yes) ** 2)


def calibration_error(p_yes: Floats, is_yes: Bools, bins: int = BINS) -> float | None:
    """Expected calibration error of p_yes (n,): how far p_yes is from how often it is a yes.

    Bins of equal width over 0 to 1, weighted by what falls into them; the last holds 1.
    """
    if not len(p_yes):
        return None
    bin_of = np.minimum((p_yes * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, weights=p_yes - is_yes, minlength=bins)
    return float(np.abs(gaps).sum() / len(p_yes))


def auroc(p_yes: Floats, is_yes: Bools) -> float | None:
    """The chance that a random yes has a higher p_yes than a random no; ties count half.

    By ranks (Mann-Whitney's U); None where one of the two is missing.
    """
    positives = int(is_yes.sum())
    negatives = len(is_yes) - positives
    if not positives or not negatives:
        return None
    _, which, counts = np.unique(p_yes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[which]
    u = ranks[is_yes].sum() - positives * (positives + 1) / 2
    return float(u / (positives * negatives))


def span_iou(found: Sequence[float], target: Sequence[float]) -> float:
    """Overlap of two [start, end] over what they span together, gap included, as lmms-eval."""
    overlap = max(min(found[1], target[1]) - max(found[0], target[0]), 0.0)
    whole = max(found[1], target[1]) - min(found[0], target[0])
    return overlap / whole if whole > 0 else 0.0


def box_iou(found: Sequence[float], target: Sequence[float]) -> float:
    """Overlap of two [x0, y0, x1, y1] over their union."""
    width = max(min(found[2], target[2]) - max(found[0], target[0]), 0.0)
    height = max(min(found[3], target[3]) - max(found[1], target[1]), 0.0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (found, target)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def is_inside(xy: Sequence[float], box: Sequence[float]) -> bool:
    """Whether a point lies in [x0, y0, x1, y1], edges included."""
    return box[0] <= xy[0] <= box[2] and box[1] <= xy[1] <= box[3]


def interval(
    groups: NDArray[np.generic],
    statistic: Callable[[Indices], float | None],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % bootstrap interval of a statistic of items, whole groups drawn with replacement.

    `groups` (n,) names each item's group; `statistic` takes the indices of the items drawn. The
    percentile method (Efron 1979) on clusters: questions about one clip are not independent. None
    with fewer than two groups.
    """
    _, which = np.unique(groups, return_inverse=True)
    order = np.argsort(which, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(which))[:-1])
    if len(members) < 2:
        return None
    draw = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(resamples):
        chosen = draw.integers(len(members), size=len(members))
        value = statistic(np.concatenate([members[i] for i in chosen]))
        if value is not None:
            found.append(value)
    if not found:
        return None
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)
