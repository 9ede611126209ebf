"""Yes and no read off logits, of the model's own and of ours in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from miloco_edge import Clip, Engine
from miloco_edge.engine import odds
from miloco_edge.engine.decide import judge
from miloco_edge.engine.odds import AnswerTokens, Reading
from miloco_edge.errors import NonFiniteError
from miloco_edge.llama import Context, log_softmax
from miloco_edge.prompt.chat import EMPTY_THINK
from miloco_edge.prompt.decision import rule_question
from miloco_edge.types import Calibration, Decision
from tests.engine.held import everything_is_given_back as everything_is_given_back
from tests.engine.held import forgotten as forgotten

pytestmark = pytest.mark.usefixtures("forgotten", "everything_is_given_back")

RULES = ["Someone is reading a book", "Someone is reading the newspaper"]


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
