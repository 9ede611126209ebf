"""A cheap look first, a closer one where it leaves doubt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from miloco_edge import Clip, Economy
from miloco_edge.engine.closer import look_twice
from miloco_edge.engine.economy import Closer
from miloco_edge.engine.local import LocalEngine
from miloco_edge.engine.protocol import Seen
from miloco_edge.types import Decision, Degraded, Timings, Usage

RULES = ("reading", "sleeping", "eating", "gone")


class Eyes:
    """Looks with given odds, cheap and close; None is a rule that time did not suffice for."""

    def __init__(self, cheap: dict[str, float | None], close: dict[str, float | None]) -> None:
        self.odds = {True: cheap, False: close}
        self.looks: list[tuple[list[str], float]] = []

    def __call__(self, rules: Sequence[str], share: float) -> Seen:
        self.looks.append((list(rules), share))
        made = []
        for rule in rules:
            p_yes = self.odds[share < 1][rule]
            if p_yes is None:
                made.append(Decision(rule, "unknown", None, None, "none", "deadline"))
            else:
                answer = "yes" if p_yes >= 0.5 else "no"
                made.append(Decision(rule, answer, p_yes, 0.0, "logits"))  # type: ignore[arg-type]
        usage = Usage(prompt_tokens=100, visual_tokens=round(400 * share))
        return Seen(tuple(made), usage, Timings(vision_s=share, total_s=2 * share))


def test_only_what_is_in_doubt_is_looked_at_again() -> None:
    eyes = Eyes(
        {"reading": 0.9, "sleeping": 0.6, "eating": 0.3, "gone": None},
        {"sleeping": 0.1, "eating": None},
    )
    seen = look_twice(Closer(share=0.25, doubt=0.3), RULES, eyes)
    assert eyes.looks == [(list(RULES), 0.25), (["sleeping", "eating"], 1.0)]
    assert [(d.answer, d.p_yes) for d in seen.decisions] == [
        ("yes", 0.9), ("no", 0.1), ("no", 0.3), ("unknown", None),
    ]  # fmt: skip
    assert seen.usage == Usage(prompt_tokens=200, visual_tokens=500)
    assert seen.timings == Timings(vision_s=1.25, total_s=2.5)
    assert seen.degraded == Degraded("deadline", {"closer_rules": 2}, {"closer_rules": 1})


@pytest.mark.parametrize(("close_s", "both_s"), [(2.0, 3.0), (None, None)])
def test_both_looks_are_predicted_or_none(close_s: float | None, both_s: float | None) -> None:
    def look(rules: Sequence[str], share: float) -> Seen:
        made = tuple(Decision(rule, "yes", 0.6, 0.0, "logits") for rule in rules)
        predicted_s = 1.0 if share < 1 else close_s
        return Seen(made, Usage(), Timings(total_s=1.0, predicted_s=predicted_s))

    seen = look_twice(Closer(), RULES, look)
    assert (seen.timings.total_s, seen.timings.predicted_s) == (2.0, both_s)
    assert seen.degraded is None, "all were looked at closely"


@pytest.mark.parametrize(("enough", "looks"), [(0.75, 1), (0.8, 2), (1.0, 2)])
def test_enough_rules_that_are_decided_are_enough(enough: float, looks: int) -> None:
    odds: dict[str, float | None] = {"reading": 0.9, "sleeping": 0.6, "eating": 0.1, "gone": 0.02}
    eyes = Eyes(odds, odds)
    look_twice(Closer(doubt=0.2, enough=enough), RULES, eyes)
    assert len(eyes.looks) == looks


def test_an_engine_looks_twice_if_told_to(pair: Path, clip: Clip) -> None:
    economy = Economy(closer=Closer(share=0.3, doubt=0.5))
    local = LocalEngine.of(pair, threads=1, context=2048, profile=False, economy=economy)
    try:
        seen = local.decide(clip, ["Someone is reading"]).result()
    finally:
        local.close()
    assert 288 < seen.usage.visual_tokens <= 1.3 * 288, "a random model leaves doubt"
