"""From the odds that a model gives to yes, to how often yes is right: Platt scaling.

Platt 1999, "Probabilistic outputs for support vector machines"; solved as Lin, Lin and Weng 2007,
"A note on Platt's probabilistic outputs for support vector machines" (Machine Learning 68, 267).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from miloco_edge.engine import Engine
from miloco_edge.errors import ContextFullError, MediaError
from miloco_edge.evaluate.manifest import Item
from miloco_edge.evaluate.metrics import Bools, Floats, brier, calibration_error
from miloco_edge.evaluate.run import Progress, Settings, read_clip
from miloco_edge.types import Budget, Calibration

FOLDS = 5
_STEPS, _RIDGE, _LEAST_STEP, _CLOSE = 100, 1e-12, 1e-10, 1e-5


@dataclass(frozen=True)
class Odds:
    """What the model's odds say of questions whose answers are known."""

    logits: Floats
    """(n,) ln of the mass of yes over the mass of no."""
    is_yes: Bools
    """(n,)"""
    groups: tuple[str, ...]
    """(n,) What each belongs to; one group is never on both sides of a fold."""
    left_out: int
    """Questions without odds: media that cannot be shown or that show nothing."""


@dataclass(frozen=True)
class Quality:
    """How good probabilities are."""

    brier: float | None
    ece: float | None


@dataclass(frozen=True)
class Fit:
    """A calibration and what it is worth."""

    calibration: Calibration
    samples: int
    positives: int
    before: Quality
    """Of the model's own p_yes."""
    after: Quality
    """Of p_yes by calibrations that were fitted on other groups, in turns."""


def fit_platt(logits: Floats, is_yes: Bools) -> Calibration:
    """The a and b of p = 1 / (1 + exp(-(a * logit + b))) that explain labels (n,) best.

    Regularised as Platt has it: instead of 1 and 0 the targets are (yes + 1) / (yes + 2) and
    1 / (no + 2), so that a few samples that are all right do not make the model certain. Newton's
    method with backtracking. Raises ValueError unless there are both yes and no.
    """
    yes, no = int(is_yes.sum()), int((~is_yes).sum())
    if not yes or not no:
        raise ValueError(f"expected labels of both kinds, got {yes} yes and {no} no")
    target = np.where(is_yes, (yes + 1) / (yes + 2), 1 / (no + 2))
    a, b = 0.0, math.log((yes + 1) / (no + 1))
    loss = _loss(a, b, logits, target)
    for _ in range(_STEPS):
        p = _sigmoid(a * logits + b)
        gradient = np.array([((p - target) * logits).sum(), (p - target).sum()])
        if np.abs(gradient).max() < _CLOSE:
            break
        w = p * (1 - p)
        mixed = (w * logits).sum()
        hessian = np.array([[(w * logits**2).sum() + _RIDGE, mixed], [mixed, w.sum() + _RIDGE]])
        direction = -np.linalg.solve(hessian, gradient)
        step = 1.0
        while step >= _LEAST_STEP:
            tried = a + step * float(direction[0]), b + step * float(direction[1])
            if (new := _loss(*tried, logits, target)) < loss + 1e-4 * step * gradient @ direction:
                (a, b), loss = tried, new
                break
            step /= 2
        else:
            break
    return Calibration(a, b)


def fit_calibration(odds: Odds) -> Fit:
    """Fit on all of the odds, and say by cross-validation what that is worth.

    Raises ValueError unless there are both yes and no.
    """
    calibration = fit_platt(odds.logits, odds.is_yes)
    held_out = np.full(len(odds.logits), np.nan)
    names = {name: i for i, name in enumerate(dict.fromkeys(odds.groups))}
    fold = np.array([names[group] % FOLDS for group in odds.groups])
    for number in range(FOLDS):
        mine = fold == number
        rest = odds.is_yes[~mine]
        if mine.any() and rest.any() and not rest.all():
            fitted = fit_platt(odds.logits[~mine], rest)
            held_out[mine] = _sigmoid(fitted.a * odds.logits[mine] + fitted.b)
    known = np.isfinite(held_out)
    return Fit(
        calibration,
        samples=len(odds.logits),
        positives=int(odds.is_yes.sum()),
        before=_quality(_sigmoid(odds.logits), odds.is_yes),
        after=_quality(held_out[known], odds.is_yes[known]),
    )


def collect_odds(
    engine: Engine,
    items: Sequence[Item],
    settings: Settings,
    progress: Progress = lambda done, total: None,
) -> Odds:
    """The odds of a manifest's binary items, as `Scene.decide` reads them, before calibration.

    Neighbours about the same stretch of the same media share one look and one batch.
    """
    binary = [item for item in items if item.task == "binary"]
    logits: list[float] = []
    labels: list[bool] = []
    groups: list[str] = []
    done = 0
    for _, neighbours in groupby(binary, lambda item: item.clip):
        members = list(neighbours)
        for item, p_yes in zip(members, _p_yes(engine, members, settings), strict=True):
            if p_yes is not None:
                logits.append(math.log(p_yes) - math.log1p(-p_yes))
                labels.append(item.target == "yes")
                groups.append(item.group or str(item.clip))
        done += len(members)
        progress(done, len(binary))
    left_out = len(binary) - len(logits)
    return Odds(np.array(logits, float), np.array(labels, bool), tuple(groups), left_out)


def _p_yes(engine: Engine, members: Sequence[Item], settings: Settings) -> list[float | None]:
    """p_yes of questions about one clip, kept a little away from 0 and 1."""
    try:
        clip = read_clip(members[0], settings)
        with engine.look(
            clip,
            budget=Budget(visual_tokens=settings.visual_tokens),
            smart_home=settings.smart_home,
            language="zh" if settings.language == "zh" else "en",
        ) as scene:
            decisions = scene.decide(
                [item.question for item in members], as_written=True, calibration=Calibration()
            )
    except (MediaError, ContextFullError):
        return [None] * len(members)
    least = 1e-12
    return [None if d.p_yes is None else min(max(d.p_yes, least), 1 - least) for d in decisions]


def _quality(p_yes: Floats, is_yes: Bools) -> Quality:
    return Quality(brier(p_yes, is_yes), calibration_error(p_yes, is_yes))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _loss(a: float, b: float, logits: Floats, target: Floats) -> float:
    """Cross-entropy of the targets (n,), in the form that neither overflows nor loses digits."""
    z = a * logits + b
    return float((np.logaddexp(0, z) - target * z).sum())
