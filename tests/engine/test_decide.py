from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from miloco_edge import AsyncEngine, Budget, Clip, Engine
from miloco_edge.engine import odds
from miloco_edge.engine.decide import judge
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.odds import AnswerTokens, Reading
from miloco_edge.errors import ClosedError, ContextFullError, NonFiniteError
from miloco_edge.llama import Context, log_softmax
from miloco_edge.prompt.chat import EMPTY_THINK
from miloco_edge.prompt.decision import rule_question
from miloco_edge.types import Calibration, Decision

RULES = [
    "Someone is reading a book",
    "Someone is reading the newspaper",
    "The light is on",
    "有人在看电视",
    "Is the door open?",
    "Someone is reading a book",
]
MANY = [f"Camera {i} shows person {i % 7} standing in the dark room" for i in range(24)]


def held(engine: Engine) -> tuple[int, int, list[int]]:
    """Cells in use, free sequences, and free ones that are not empty."""
    context = engine._loaded.context

    def look() -> tuple[int, int, list[int]]:
        left = [
            sequence
            for sequence in context._free_sequences
            if llama_cpp.llama_memory_seq_pos_max(context._memory, sequence) != -1
        ]
        return sum(context._own_cells.values()), context.free_sequences, left

    return engine._worker.submit(look, Interrupt()).result()


@pytest.fixture(scope="module", autouse=True)
def _as_it_was(engine: Engine) -> Iterator[None]:
    yield
    engine.forget()  # the smart-home prompts take cells from other modules' tests


@pytest.fixture(autouse=True)
def _everything_is_given_back(engine: Engine, clip: Clip) -> Iterator[None]:
    engine.look(clip).close()  # openings are kept
    engine.look(clip, smart_home=True).close()
    engine.look().close()
    cells, sequences, left = held(engine)
    yield
    after = held(engine)
    # Openings may have given way to what was asked; nothing else may be held.
    assert after[0] <= cells and after[1] >= sequences
    assert left == after[2] == []


def mass(engine: Engine, logits: np.ndarray, words: tuple[str, ...]) -> float:
    """The mass of words by their first tokens, as one would read it off by hand."""
    ids = sorted({engine.tokenize(word)[0] for word in words})
    return float(np.exp(log_softmax(logits))[ids].sum())


def test_a_decision_is_what_the_logits_say(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        decision = scene.decide(RULES[:1])[0]
        logits = scene.logits(rule_question(RULES[0]))[-1]
    # The tiny vocabulary has these words whole; Chinese and YES are several bytes, and unlikely.
    yes = mass(engine, logits, ("yes", " yes", "Yes", " Yes"))
    no = mass(engine, logits, ("no", " no", "No", " No"))
    assert decision.p_yes == pytest.approx(yes / (yes + no), abs=1e-6)
    assert decision.outside_mass == pytest.approx(1 - yes - no, abs=1e-6)
    assert (decision.answer, decision.reason) == ("unknown", "outside_mass")
    assert decision.path == "logits"


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


def test_calibration_moves_p_yes(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        raw = scene.decide(RULES[:1], calibration=Calibration())[0]
        moved = scene.decide(RULES[:1], calibration=Calibration(a=2.0, b=-1.0))[0]
    assert raw.p_yes is not None
    logit = np.log(raw.p_yes / (1 - raw.p_yes))
    assert moved.p_yes == pytest.approx(1 / (1 + np.exp(1 - 2 * logit)), abs=1e-4)
    assert moved.outside_mass == raw.outside_mass


class Odds:
    """Puts odds of our own where the model's would be read, one row after another."""

    def __init__(self, engine: Engine, *rows: dict[str, float] | None) -> None:
        self._model, self._rows = engine._loaded.model, list(rows)

    def __call__(self, context: Context, place: int) -> np.ndarray:
        row = self._rows.pop(0) if len(self._rows) > 1 else self._rows[0]
        if row is None:
            raise NonFiniteError("language model")
        p = np.full(self._model.n_vocab, 1e-9)
        for text, share in row.items():
            token = int(self._model.tokenize(text, special=True)[0])
            p[token] = share
        return np.log(p).astype(np.float32)


Install = Callable[..., None]


@pytest.fixture
def say(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(*rows: dict[str, float] | None) -> None:
        reader = Odds(engine, *rows)
        monkeypatch.setattr(Context, "logits_at", lambda self, place: reader(self, place))

    return install


def only(engine: Engine, clip: Clip, **options: Any) -> Decision:
    with engine.look(clip) as scene:
        return scene.decide(["The door is open"], **options)[0]


def test_all_spellings_count(engine: Engine, clip: Clip, say: Install) -> None:
    say({"yes": 0.3, "Yes": 0.2, " yes": 0.1, "no": 0.1, " No": 0.1, "the": 0.2})
    decision = only(engine, clip)
    assert decision.p_yes == pytest.approx(0.75, abs=1e-3)
    assert decision.outside_mass == pytest.approx(0.2, abs=1e-3)
    assert (decision.answer, decision.path, decision.reason) == ("yes", "logits", None)


def test_a_model_that_would_think_gets_an_empty_thought(
    engine: Engine, clip: Clip, say: Install
) -> None:
    assert engine.thinks
    say({"<": 0.9, "yes": 0.05}, {"no": 0.9, "yes": 0.1})
    decision = only(engine, clip)
    assert decision.p_yes == pytest.approx(0.1, abs=1e-3)
    assert (decision.answer, decision.path) == ("no", "forced")
    say({"<": 0.9, "yes": 0.05}, {"<": 0.9, "yes": 0.05})
    decision = only(engine, clip)
    assert (decision.answer, decision.path, decision.reason) == (
        "unknown",
        "forced",
        "outside_mass",
    )


def test_the_forced_thought_is_in_the_cache(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read after a real empty thought: the same as logits after the same tokens."""
    monkeypatch.setattr(odds, "MAX_OUTSIDE_MASS", 0.0)
    model = engine._loaded.model
    tags = int(model.tokenize("<", special=True)[0])
    real = Context.logits_at
    first = True

    def biased(self: Context, place: int) -> np.ndarray:
        nonlocal first
        logits = real(self, place)
        if first:
            logits[tags] = 100.0
            first = False
        return logits

    with engine.look(clip) as scene:
        empty = model.tokenize(EMPTY_THINK, special=True).tolist()
        after = scene.logits(rule_question(RULES[0]), continuation=empty)[-1]
        monkeypatch.setattr(Context, "logits_at", biased)
        decision = scene.decide(RULES[:1])[0]
    yes = mass(engine, after, ("yes", " yes", "Yes", " Yes"))
    no = mass(engine, after, ("no", " no", "No", " No"))
    assert decision.path == "forced"
    assert decision.p_yes == pytest.approx(yes / (yes + no), abs=1e-3)


def test_words_of_several_tokens_are_followed(engine: Engine, clip: Clip, say: Install) -> None:
    # In the tiny vocabulary 是 (yes) and 没 (no) are bytes, and begin with the same one.
    model = engine._loaded.model
    shi, mei = (model.tokenize(word, special=False).tolist() for word in ("是", "没"))
    assert shi[0] == mei[0] and len(shi) == 3
    text = {i: model.text_of(i) for i in (*shi, *mei)}
    assert "\ufffd" in text[shi[0]]

    rows = []
    for pairs in (
        {shi[0]: 0.8, int(model.tokenize("no", special=False)[0]): 0.2},
        {shi[1]: 0.7, mei[1]: 0.2, 0: 0.1},
        {shi[2]: 1.0},
        {mei[2]: 1.0},
    ):
        p = np.full(model.n_vocab, 1e-9)
        for token, share in pairs.items():
            p[token] = share
        rows.append(np.log(p).astype(np.float32))
    answers = {0: rows[0]}
    words = AnswerTokens(lambda t: model.tokenize(t, special=False))
    assert words.ends[tuple(shi)] and not words.ends[tuple(mei)]
    assert (shi[0],) in words.beginnings

    def decode(self: Context, sequence: int, tokens: np.ndarray, *_: Any) -> np.ndarray:
        return {1: rows[1], 2: rows[2] if tokens[-1] == shi[1] else rows[3]}[len(tokens)]

    with engine.look(clip) as scene, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Context, "logits_at", lambda self, place: answers[0])
        patch.setattr(Context, "decode_tokens", decode)
        decision = scene.decide(["The door is open"])[0]
    assert decision.path == "grammar"
    assert decision.p_yes == pytest.approx(0.56 / (0.56 + 0.16 + 0.2), abs=1e-3)
    assert decision.outside_mass == pytest.approx(1 - 0.92, abs=1e-3)


def test_followed_for_real_they_leave_nothing_behind(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odds, "_LIKELY", 0.0)
    with engine.look(clip) as scene:
        followed = scene.decide(RULES[:2])
        monkeypatch.undo()
        plain = scene.decide(RULES[:2])
    for one, other in zip(followed, plain, strict=True):
        assert (one.path, other.path) == ("grammar", "logits")
        assert one.outside_mass is not None and other.outside_mass is not None
        assert one.outside_mass <= other.outside_mass + 1e-6


def test_words_that_melt_into_the_prefix_are_no_next_token() -> None:
    vocabulary = {"a": [1], "ayes": [2], "ano": [1, 3], "aYes": [1, 4, 5], "aYES": [1, 4]}
    tokens = AnswerTokens(lambda text: np.array(vocabulary.get(text, [9, 9])), "a")
    assert tokens.ends == {(3,): False, (4,): True}
    assert tokens.beginnings == set()


def test_nan_is_unknown_for_the_rule_alone(engine: Engine, clip: Clip, say: Install) -> None:
    say(None, {"yes": 1.0})
    with engine.look(clip) as scene:
        first, second = scene.decide(["The door is open", "The light is on"])
    assert first == Decision("The door is open", "unknown", None, None, "none", "nan")
    assert second.answer == "yes"


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


def test_what_a_reading_amounts_to() -> None:
    reading = Reading(yes=0.6, no=0.2, failed=None)
    assert judge("r", reading, Calibration(), 0.5).answer == "yes"
    assert judge("r", reading, Calibration(), 0.1).reason == "outside_mass"
    assert judge("r", reading, Calibration(b=-3.0), 0.5).answer == "no"
    assert judge("r", Reading(yes=0.6, failed="nan"), Calibration(), 1.0).p_yes is None
    nothing = judge("r", Reading(failed=None), Calibration(), 0.5)
    assert (nothing.p_yes, nothing.outside_mass) == (0.5, 1.0)
    sure = judge("r", Reading(yes=1.0, failed=None), Calibration(a=1000.0), 0.5)
    assert sure.p_yes == 1.0
    assert json.dumps(sure.__dict__)
