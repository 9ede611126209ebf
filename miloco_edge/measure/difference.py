"""Two results: is one slower, or is it noise?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from miloco_edge.errors import ManifestError
from miloco_edge.measure.stages import STAGES
from miloco_edge.measure.statistics import Estimate, holm, permutation_p, ratio_of_medians

ALPHA = 0.01
"""Of 100 comparisons of the same thing, so many may be called a difference, times this."""
LEAST_CHANGE = 0.02
"""A change of less than this is not called one, however sure it is."""
LEAST_SAMPLES = 5
"""Fewer against fewer cannot be below ALPHA."""

TEST = (
    "two-sided permutation test on the difference of the mean logarithms (9 999 shuffles), "
    "Holm-corrected over the stages: a change is called one where p < "
    f"{ALPHA:g} and the medians differ by more than {LEAST_CHANGE:.0%}; the interval of the ratio "
    "of medians is bootstrapped (95 %)"
)

Verdict = Literal["slower", "faster", "same", "too few samples"]


@dataclass(frozen=True)
class Change:
    """One stage before and after."""

    stage: str
    before_s: float
    after_s: float
    ratio: Estimate | None
    """Of the medians, after to before."""
    p: float | None
    """Corrected."""
    verdict: Verdict


@dataclass(frozen=True)
class Difference:
    """Two results compared."""

    changes: tuple[Change, ...]
    unlike: tuple[str, ...]
    """What else differs between them, so that the times may for that reason."""
    same_answers: bool

    @property
    def regressed(self) -> bool:
        """Whether any stage is slower."""
        return any(change.verdict == "slower" for change in self.changes)


def read_result(path: Path) -> Mapping[str, Any]:
    """A result of `bench`. Raises ManifestError where the file is not one."""
    try:
        document = json.loads(path.read_bytes())
        samples = document["samples"]
        known = all({"cold", "stages"} <= sample.keys() for sample in samples)
        if not known or not isinstance(document["host"], dict) or not samples:
            raise KeyError("samples")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            path, None, f"expected a result of miloco-edge bench, got {type(error).__name__}",
            hint="make one with `miloco-edge bench MODEL --out FILE.json`",
        ) from error  # fmt: skip
    return document  # type: ignore[no-any-return]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    """Compare the warm windows of two results, stage by stage."""
    pairs = {
        stage: (first, second)
        for stage in STAGES
        if stage != "wait_s"
        and len(first := _warm(before, stage))
        and len(second := _warm(after, stage))
    }
    enough = [stage for stage, both in pairs.items() if min(map(len, both)) >= LEAST_SAMPLES]
    p_values = dict(
        zip(enough, holm([permutation_p(*pairs[stage]) for stage in enough]), strict=True)
    )
    return Difference(
        tuple(_change(stage, *both, p_values.get(stage)) for stage, both in pairs.items()),
        tuple(_unlike(before, after)),
        before.get("answers_sha256") == after.get("answers_sha256"),
    )


def _change(
    stage: str, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], p: float | None
) -> Change:
    medians = float(np.median(before)), float(np.median(after))
    if p is None:
        return Change(stage, *medians, None, None, "too few samples")
    ratio = ratio_of_medians(before, after)
    verdict: Verdict = "same"
    if p < ALPHA and abs(ratio.value - 1) > LEAST_CHANGE:
        verdict = "slower" if ratio.value > 1 else "faster"
    return Change(stage, *medians, ratio, p, verdict)


def _warm(document: Mapping[str, Any], stage: str) -> np.ndarray[Any, Any]:
    found = [
        value
        for sample in document["samples"]
        if not sample["cold"] and (value := sample["stages"].get(stage))
    ]
    return np.array(found, np.float64)


def _unlike(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
    """The paths of fields that should be the same for times to be compared."""
    found = []
    for part, skipped in (
        ("host", {"versions"}), ("build", set()), ("model", {"path", "mmproj"}),
        ("config", {"windows"}),
    ):  # fmt: skip
        first, second = before.get(part) or {}, after.get(part) or {}
        for name in sorted({*first, *second} - skipped):
            if first.get(name) != second.get(name):
                found.append(f"{part}.{name}: {first.get(name)!r} and {second.get(name)!r}")
    return found
