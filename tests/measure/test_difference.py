from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miloco_edge.errors import ManifestError
from miloco_edge.measure.difference import compare, read_result


def result(
    total_s: list[float], vision_s: list[float] | None = None, **host: Any
) -> dict[str, Any]:
    vision = vision_s or total_s
    cold = {"cold": True, "stages": {"total_s": 99.0, "vision_s": 99.0}}
    warm = [
        {"cold": False, "stages": {"total_s": t, "vision_s": v, "token_s": None}}
        for t, v in zip(total_s, vision, strict=True)
    ]
    return {
        "host": {"cpu": "one", **host},
        "build": {},
        "model": {"sha256": "a"},
        "config": {"windows": len(warm)},
        "answers_sha256": "x",
        "samples": [cold, *warm],
    }


def noisy(median: float, n: int, seed: int) -> list[float]:
    return list(median * np.random.default_rng(seed).lognormal(0, 0.02, n))


def test_a_regression_is_told_from_noise() -> None:
    difference = compare(
        result(noisy(1, 20, 0), noisy(0.5, 20, 1)), result(noisy(1.1, 20, 2), noisy(0.5, 20, 3))
    )
    verdicts = {change.stage: change.verdict for change in difference.changes}
    assert verdicts == {"total_s": "slower", "vision_s": "same"}
    assert difference.regressed
    ratio = next(c.ratio for c in difference.changes if c.stage == "total_s")
    assert ratio is not None and ratio.low < 1.1 < ratio.high


def test_quicker_is_no_regression() -> None:
    difference = compare(result(noisy(1, 20, 0)), result(noisy(0.8, 20, 1)))
    assert {change.verdict for change in difference.changes} == {"faster"}
    assert not difference.regressed


def test_a_change_that_is_sure_and_small_is_none() -> None:
    before = [1 + i * 1e-4 for i in range(20)]
    difference = compare(result(before), result([value * 1.01 for value in before]))
    assert {change.verdict for change in difference.changes} == {"same"}
    assert all(change.p is not None and change.p < 0.01 for change in difference.changes)


def test_few_samples_say_nothing() -> None:
    difference = compare(result([1.0, 1.1, 1.2, 1.1]), result([5.0] * 20))
    assert {change.verdict for change in difference.changes} == {"too few samples"}


def test_what_else_differs_is_told() -> None:
    other = result(noisy(1, 5, 0), cpu="other") | {"answers_sha256": "y"}
    difference = compare(result(noisy(1, 9, 0)), other)
    assert difference.unlike == ("host.cpu: 'one' and 'other'",)
    assert not difference.same_answers


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"samples": [], "host": {}}', '{"samples": [1]}']
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match="expected a result of miloco-edge bench"):
        read_result(path)
    path.write_text(json.dumps(result([1.0])))
    assert read_result(path)["host"]["cpu"] == "one"
