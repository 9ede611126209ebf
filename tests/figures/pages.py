"""Pages and the results that their figures come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def words(path: str) -> str:
    """A page on one line, however it is broken."""
    return " ".join((ROOT / path).read_text().split())


def result_of(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def demo(run: int, *keys: str) -> Callable[[Any], float]:
    def value(d: Any) -> float:
        scores = d["runs"][run]["scores"]
        for key in keys:
            scores = scores[key]
        return float(100 * scores["value"])

    return value
