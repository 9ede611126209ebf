from __future__ import annotations

import pytest

from miloco_edge import Clip, Engine

RULES = [
    "Someone is reading a book",
    "Someone is reading the newspaper",
    "The light is on",
    "有人在看电视",
    "Is the door open?",
]


def test_rules_together_are_as_rules_alone(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        together = scene.decide(RULES)
        for decision in together:
            assert [decision] == [d for d in together if d.rule == decision.rule]
            alone = scene.decide([decision.rule])[0]
            assert alone.p_yes == pytest.approx(decision.p_yes, abs=1e-3)
            assert alone.outside_mass == pytest.approx(decision.outside_mass, abs=1e-3)
    assert [d.rule for d in together] == RULES
