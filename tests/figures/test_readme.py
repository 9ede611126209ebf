"""README's figures are those of the results that they come from."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from tests.figures.pages import ROOT, demo, result_of, words

README = words("README.md")


def run_of(recipe: str) -> Callable[[Any], Any]:
    return lambda d: next(run for run in d["runs"] if run["recipe"] == recipe)


def median_of(stage: str) -> Callable[[Any], float]:
    return lambda d: d["six_frames_448x252"]["median"][stage]


def second_first_token(d: Any) -> float:
    samples = d["six_frames_448x252"]["samples"]
    return statistics.median(s["answers"][1]["timings"]["first_token_s"] for s in samples)


def peak(side: str) -> Callable[[Any], float]:
    return lambda d: max(pair[side]["peak_rss_bytes"] for pair in d["pairs"]) / 1e9


Figure = tuple[str, str, Callable[[Any], float], str]
BESIDE = "quantize-beside-reference"
FIGURES: list[Figure] = [
    (r"BF16 mmproj \| ([\d.]+) s,", "conversion-7b", lambda d: run_of("q4_0")(d)["seconds"], ".1f"),
    (
        r"at most (\d+) MB resident",
        "conversion-7b",
        lambda d: max(run["peak_rss_bytes"] for run in d["runs"]) / 1e6,
        ".0f",
    ),
    (r"in turns \| ([\d.]+) of their", f"{BESIDE}-q4_0", lambda d: d["ratio_median"], ".2f"),
    (r"largest process holds ([\d.]+) GB", f"{BESIDE}-q4_0", peak("theirs"), ".1f"),
    (r"without AVX-512 \| ([\d.]+) of", f"{BESIDE}-q4_k_m", lambda d: d["ratio_median"], ".2f"),
    (r"time \(([\d.]+) and", f"{BESIDE}-q4_k_m", lambda d: d["pairs"][1]["ratio"], ".2f"),
    (r"and ([\d.]+)\), with AVX", f"{BESIDE}-q4_k_m", lambda d: d["pairs"][0]["ratio"], ".2f"),
    (r"AVX-512 ([\d.]+) once", f"{BESIDE}-q4_k_m-avx512", lambda d: d["ratio_median"], ".2f"),
    (r"encoder's end \| ([\d.]+) s", "answer-7b", median_of("vision_s"), ".1f"),
    (r"432 visual tokens \| ([\d.]+) s", "answer-7b", median_of("prefill_s"), ".1f"),
    (r"second question \| ([\d.]+) s", "answer-7b", second_first_token, ".1f"),
    (
        r"two answers \| (\d+) s",
        "picture-7b",
        lambda d: d["picture_4096_tokens"]["total_s"],
        ".0f",
    ),
    (
        r"film clip\) \| ([\d.]+) /",
        "answer-7b",
        lambda d: d["resident_loaded_bytes"] / 2**30,
        ".1f",
    ),
    (r" / ([\d.]+) GiB for", "answer-7b", lambda d: d["peak_resident_bytes"] / 2**30, ".1f"),
    (
        r"activities and five gestures \| ([\d.]+) %",
        "demo-model",
        demo(0, "answers", "macro_f1"),
        ".1f",
    ),
    (
        r"style that training never saw \| ([\d.]+) %",
        "demo-model",
        demo(2, "answers", "macro_f1"),
        ".1f",
    ),
    (r"happens, mIoU \| ([\d.]+) %", "demo-model", demo(0, "temporal", "miou"), ".1f"),
    (r"box inside \| ([\d.]+) %", "demo-model", demo(0, "point", "centre_accuracy"), ".1f"),
    (
        r"same answers in ([\d ]+) of 1 600 decisions",
        "rules-together-demo",
        lambda d: round(d["decisions"] * d["same_answer"]) * (d["decisions"] == 1600),
        "_",
    ),
    (r"moved by ([\d.]+) at most", "rules-together-demo", lambda d: d["p_yes_moved_most"], ".3f"),
]


@pytest.mark.parametrize(("pattern", "name", "value", "form"), FIGURES)
def test_figure(pattern: str, name: str, value: Callable[[Any], float], form: str) -> None:
    found = re.findall(pattern, README)
    assert len(found) == 1, f"expected one {pattern!r} in README.md"
    result = result_of(name)
    assert found[0] == format(value(result), form).replace("_", " ")


def test_every_result_says_where_it_was_measured() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        host = json.loads(path.read_text())["host"]
        assert host["date"] and host["cpu"]["model"] and host["versions"], path.name
