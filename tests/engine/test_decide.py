from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miloco_edge import AsyncEngine, Budget, Clip, Engine
from miloco_edge.engine import odds
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.errors import ClosedError, ContextFullError
from miloco_edge.llama import Context
from miloco_edge.prompt.decision import rule_question
from miloco_edge.types import Calibration, Decision
from tests.engine.held import everything_is_given_back as everything_is_given_back
from tests.engine.held import forgotten as forgotten

pytestmark = pytest.mark.usefixtures("forgotten", "everything_is_given_back")

RULES = [
    "Someone is reading a book",
    "Someone is reading the newspaper",
    "The light is on",
    "有人在看电视",
    "Is the door open?",
    "Someone is reading a book",
]
MANY = [f"Camera {i} shows person {i % 7} standing in the dark room" for i in range(24)]


@pytest.mark.parametrize("smart_home", [False, True])
def test_rules_together_are_as_rules_alone(engine: Engine, clip: Clip, smart_home: bool) -> None:
    with engine.look(clip, smart_home=smart_home) as scene:
        together = scene.decide(RULES, max_outside_mass=1.0)
    alone = []
    for rule in RULES[:4]:
        with engine.look(clip, smart_home=smart_home) as scene:
            alone += scene.decide([rule], max_outside_mass=1.0)
    assert [d.rule for d in together] == RULES
    assert {d.answer for d in together} <= {"yes", "no"}
    for one, other in zip(together, alone, strict=False):
        assert one.answer == other.answer
        assert one.p_yes == pytest.approx(other.p_yes, abs=2e-3)
        assert one.outside_mass == pytest.approx(other.outside_mass, abs=2e-3)
    assert together[0] == together[-1], "one suffix, read once"


@pytest.mark.parametrize("budget", [Budget(), Budget(seconds=100)])
def test_rules_that_do_not_fit_go_in_groups(
    engine: Engine, clip: Clip, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodes: list[int] = []
    real = Context.decode_runs

    def count(self: Context, runs: Any) -> list[int]:
        decodes.append(sum(len(run.tokens) for run in runs))
        return real(self, runs)

    monkeypatch.setattr(Context, "decode_runs", count)
    with engine.look(clip) as scene:
        decisions = scene.decide(MANY, budget=budget)
        batches = list(decodes)
        alone = [scene.decide([rule])[0] for rule in MANY[::9]]
    assert len(batches) > 1
    assert max(batches) <= (512 if budget.seconds is None else odds.TIMED_TOKENS)
    # What the rules have in common is decoded once, not once a group.
    one = len(engine.tokenize(rule_question(MANY[0])))
    assert sum(batches) < 0.8 * one * len(MANY)
    for decision, other in zip(decisions[::9], alone, strict=True):
        assert decision.p_yes == pytest.approx(other.p_yes, abs=2e-3)


def test_a_rule_longer_than_a_batch(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        words = "the door is open and " * 60
        assert 512 < len(engine.tokenize(words)) < 1200
        long = scene.decide([words, "the door is open"])
        assert all(decision.p_yes is not None for decision in long)
        with pytest.raises(ContextFullError):
            scene.decide(["the door is open and " * 300])


def test_no_rules_and_rules_with_more_than_a_sentence(engine: Engine, clip: Clip) -> None:
    @dataclass(frozen=True)
    class Rule:
        id: str
        text: str

    with engine.look(clip) as scene:
        assert scene.decide([]) == []
        ruled = scene.decide([Rule("tv", "The TV is on")])
        assert ruled == scene.decide(["The TV is on"])
        whole = scene.decide([rule_question("The TV is on")], as_written=True)
        assert whole[0].p_yes == ruled[0].p_yes


def only(engine: Engine, clip: Clip, **options: Any) -> Decision:
    with engine.look(clip) as scene:
        return scene.decide(["The door is open"], **options)[0]


def test_calibration_moves_p_yes(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        raw = scene.decide(RULES[:1], calibration=Calibration())[0]
        moved = scene.decide(RULES[:1], calibration=Calibration(a=2.0, b=-1.0))[0]
    assert raw.p_yes is not None
    logit = np.log(raw.p_yes / (1 - raw.p_yes))
    assert moved.p_yes == pytest.approx(1 / (1 + np.exp(1 - 2 * logit)), abs=1e-4)
    assert moved.outside_mass == raw.outside_mass


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [(np.zeros((112, 112, 3)), "black"), (np.full((112, 112, 3), 90), "covered")],
)
def test_pictures_that_show_nothing(
    engine: Engine, pixels: np.ndarray, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = Clip.from_frames([pixels.astype(np.uint8)] * 4, fps=2.0)
    with engine.look(blind) as scene:
        monkeypatch.setattr(Context, "decode_runs", lambda *_: pytest.fail("asked"))
        decisions = scene.decide(["The door is open", "The light is on"])
    assert [(d.answer, d.p_yes, d.outside_mass, d.path, d.reason) for d in decisions] == [
        ("unknown", None, None, "none", reason)
    ] * 2


def test_a_live_picture_that_never_changes_is_frozen(engine: Engine, clip: Clip) -> None:
    still = replace(
        clip, frames=tuple(replace(f, pixels=clip.frames[0].pixels) for f in clip.frames)
    )
    assert only(engine, still, live=True).reason == "frozen"
    assert only(engine, still).p_yes is not None
    assert only(engine, clip, live=True).p_yes is not None


def test_a_deadline_leaves_what_was_read(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Context.decode_runs
    left = [100.0]

    def late(self: Context, runs: Any) -> list[int]:
        places = real(self, runs)
        left[0] = -1.0
        return places

    monkeypatch.setattr(odds, "TIMED_TOKENS", 300)  # more than one rule in the tiny vocabulary
    monkeypatch.setattr(Context, "decode_runs", late)
    monkeypatch.setattr(Interrupt, "remaining", lambda self: left[0])
    with engine.look(clip) as scene:
        decisions = scene.decide(MANY, budget=Budget(seconds=100))
    reasons = [d.reason for d in decisions]
    assert reasons[0] == "outside_mass" and reasons[-1] == "deadline"
    assert reasons == sorted(reasons, reverse=True), "the first rules come first"
    assert decisions[-1].path == "none" and decisions[-1].p_yes is None


def test_a_computation_that_is_cut_off(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp itself stops in the middle of a batch when the abort flag is set."""
    context = engine._loaded.context
    real = Context.decode_runs

    def cut(self: Context, runs: Any) -> list[int]:
        context.abort.set()
        return real(self, runs)

    monkeypatch.setattr(Context, "decode_runs", cut)
    decision = only(engine, clip)
    assert (decision.answer, decision.reason) == ("unknown", "cancelled")
    monkeypatch.undo()
    assert only(engine, clip).p_yes is not None


def test_cancelled_between_groups(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Context.decode_runs
    with engine.look(clip) as scene:

        def leave(self: Context, runs: Any) -> list[int]:
            places = real(self, runs)
            scene.cancel()
            return places

        monkeypatch.setattr(Context, "decode_runs", leave)
        decisions = scene.decide(MANY)
        monkeypatch.undo()
        reasons = {d.reason for d in decisions}
        assert reasons == {"outside_mass", "cancelled"}
        assert scene.decide(MANY[:1])[0].reason == "outside_mass"


def test_a_scene_that_was_cut_short_is_unknown(engine: Engine, clip: Clip) -> None:
    fresh = Clip.from_frames([255 - f.pixels for f in clip.frames], fps=2.0)
    with engine.look(fresh, budget=Budget(seconds=1e-6)) as scene:
        assert {d.reason for d in scene.decide(RULES)} == {"deadline"}
    with pytest.raises(ClosedError):
        scene.decide(RULES)


def test_a_failure_gives_everything_back(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Context.decode_runs
    calls: list[int] = []

    def fail(self: Context, runs: Any) -> list[int]:
        calls.append(1)
        if len(calls) > 1:
            raise ContextFullError(1, 0)
        return real(self, runs)

    monkeypatch.setattr(Context, "decode_runs", fail)
    with engine.look(clip) as scene, pytest.raises(ContextFullError):
        scene.decide(MANY)


def test_conversations_without_pictures_decide_too(engine: Engine) -> None:
    with engine.look() as scene:
        assert scene.decide(["Water is wet"])[0].p_yes is not None


def test_the_async_door(pair: Path) -> None:
    async def visit() -> list[Decision]:
        async with (
            await AsyncEngine.load(pair, context=512, threads=1) as engine,
            await engine.look() as scene,
        ):
            return await scene.decide(RULES[:2])

    assert [d.rule for d in asyncio.run(visit())] == RULES[:2]
