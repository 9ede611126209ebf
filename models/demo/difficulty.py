"""How far simple models get on the drawn scenes: they must be neither trivial nor blind.

    python -m models.demo.difficulty

Two probes, both ridge regressions to one-hot classes in numpy, fitted on training seeds and scored
on validation seeds. The first sees a whole clip as its mean pixels and names one of the ten
categories. The second sees one frame and tells movement from standing still; beside it, the same
model sees the difference of neighbouring frames, to show that what one frame lacks is there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.demo.scenes import CATEGORIES, SEEDS, Plan, Scene, plan, render

RESULT = Path(__file__).parent / "difficulty.json"
LIMITS = {"mean_pixels_macro_f1": 0.5, "one_frame_macro_f1": 0.8}
"""The probes must stay below."""

RIDGES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
NEIGHBOURS = 5

Floats = NDArray[np.float32]


def main() -> None:
    """Probe, print and record; exit code 1 if a probe gets too far."""
    result = {"command": "python -m models.demo.difficulty", "limits": LIMITS, **measure()}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    worst_pooled = max(result["mean_pixels"]["macro_f1"].values())
    worst_frame = max(result["one_frame"]["macro_f1"].values())
    sys.exit(
        worst_pooled >= LIMITS["mean_pixels_macro_f1"]
        or worst_frame >= LIMITS["one_frame_macro_f1"]
    )


def measure(train: int = 2000, test: int = 800) -> dict[str, Any]:
    """Scores of the probes with so many clips to fit on and to score on."""
    return {"mean_pixels": mean_pixels(train, test), "one_frame": one_frame(train, test)}


def mean_pixels(train: int, test: int) -> dict[str, Any]:
    """One of ten categories from a clip's mean pixels."""

    def features(scene: Scene) -> list[Floats]:
        mean = scene.frames.astype(np.float32).mean(0)
        return [_pooled(mean, size) for size in (1, 4, 8, 16)]

    def label(planned: Plan) -> int | None:
        named = planned.categories
        return CATEGORIES.index(named[0]) if len(named) == 1 else None

    fit, fit_y = _collect("train", train, label, features)
    score, score_y = _collect("validation", test, label, features)
    return {
        "clips": {"train": train, "validation": test},
        "macro_f1": {
            f"{size}x{size} mean pixels": _ridge(fit[i], fit_y, score[i], score_y, len(CATEGORIES))
            for i, size in enumerate((1, 4, 8, 16))
        },
        "chance": round(1 / len(CATEGORIES), 3),
    }


def one_frame(train: int, test: int) -> dict[str, Any]:
    """Working out or still, waving or still: `needs_time` of an actor says which scenes."""

    def features(scene: Scene) -> list[Floats]:
        frames = scene.frames.astype(np.float32)
        middle = frames[len(frames) // 2]
        change = np.abs(np.diff(frames, axis=0)).mean(0)
        return [_pooled(middle, 16), _pooled(change, 16)]

    def label(planned: Plan) -> int | None:
        if len(planned.actors) != 1 or not planned.actors[0].needs_time:
            return None
        return int("workout" in planned.categories or planned.waving)

    fit, fit_y = _collect("train", train, label, features)
    score, score_y = _collect("validation", test, label, features)
    frame, change = zip(fit, score, strict=True)
    return {
        "clips": {"train": train, "validation": test},
        "moving_share": round(float(score_y.mean()), 3),
        "macro_f1": {
            "ridge on one frame": _ridge(frame[0], fit_y, frame[1], score_y, 2),
            "nearest neighbours on one frame": _nearest(frame[0], fit_y, frame[1], score_y),
        },
        "with_time_macro_f1": {
            "ridge on the change between frames": _ridge(change[0], fit_y, change[1], score_y, 2),
        },
    }


def _collect(
    split: str,
    count: int,
    label: Callable[[Plan], int | None],
    features: Callable[[Scene], list[Floats]],
) -> tuple[list[Floats], NDArray[np.int64]]:
    """Features, each (count, n), and labels (count,) of the first clips that have a label."""
    rows, labels = [], []
    for seed, y in _labelled(split, label):
        rows.append(features(render(seed)))
        labels.append(y)
        if len(labels) == count:
            break
    return [np.stack(column) for column in zip(*rows, strict=True)], np.array(labels)


def _labelled(split: str, label: Callable[[Plan], int | None]) -> Iterator[tuple[int, int]]:
    for seed in SEEDS[split]:
        y = label(plan(seed))
        if y is not None:
            yield seed, y


def _pooled(picture: Floats, size: int) -> Floats:
    """Means of size x size areas of a picture (h, w, 3), as (size * size * 3,) float32."""
    pooled = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(pooled, np.float32).ravel()


def _ridge(
    fit: Floats, fit_y: NDArray[np.int64], score: Floats, score_y: NDArray[np.int64], classes: int
) -> float:
    """The best macro F1 over several strengths of the ridge: an upper bound for the probe."""
    mean, spread = fit.mean(0), fit.std(0) + 1e-3
    x, z = (np.hstack([(a - mean) / spread, np.ones((len(a), 1))]) for a in (fit, score))
    target = np.eye(classes)[fit_y]
    best = 0.0
    for ridge in RIDGES:
        weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ target)
        best = max(best, macro_f1(score_y, (z @ weights).argmax(1), classes))
    return round(best, 3)


def _nearest(
    fit: Floats, fit_y: NDArray[np.int64], score: Floats, score_y: NDArray[np.int64]
) -> float:
    mean, spread = fit.mean(0), fit.std(0) + 1e-3
    x, z = (fit - mean) / spread, (score - mean) / spread
    distance = (z**2).sum(1)[:, None] - 2 * z @ x.T + (x**2).sum(1)[None, :]
    near = np.argpartition(distance, NEIGHBOURS, 1)[:, :NEIGHBOURS]
    return round(macro_f1(score_y, (fit_y[near].mean(1) > 0.5).astype(np.int64), 2), 3)


def macro_f1(truth: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> float:
    """Mean of each class's F1; 0 for a class that is neither there nor said."""
    scores = []
    for c in range(classes):
        hits = int(((truth == c) & (said == c)).sum())
        total = int((truth == c).sum() + (said == c).sum())
        scores.append(2 * hits / total if total else 0.0)
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
