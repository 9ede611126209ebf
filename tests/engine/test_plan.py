"""Plans under deadlines, by their properties; rates fitted to figures; a pace that is learned."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miloco_edge import Clip
from miloco_edge.engine.branch import together
from miloco_edge.engine.pace import Pace
from miloco_edge.engine.plan import (
    FEW_WORDS,
    SHORT_ANSWER,
    SIDE_BY_SIDE,
    Ahead,
    Costs,
    Plan,
    View,
    given_up_in_answer,
    plan,
)
from miloco_edge.engine.planner import Foreseen, in_groups, ways_to_show
from miloco_edge.engine.rates import Figure, Rates, rates_of
from miloco_edge.types import Answer, Preprocessor, Timings, Usage

BIG = Rates(3e-9, (0.05, 6e-3, 8e-6), (0.2, 0.012, 1e-7), (0.24, 1e-6), 512)
"""About a model of 7B parameters on two cores."""
coefficient = st.floats(0, 0.01)
rates = st.builds(
    Rates,
    st.floats(0, 1e-8),
    st.tuples(coefficient, coefficient, st.floats(0, 1e-5)),
    st.tuples(coefficient, coefficient, st.floats(0, 1e-6)),
    st.tuples(coefficient, st.floats(0, 1e-6)),
    st.sampled_from([64, 512]),
)
aheads = st.builds(
    Ahead,
    question_tokens=st.integers(1, 100),
    questions=st.integers(0, 4),
    rule_tokens=st.integers(0, 300),
    thinking_tokens=st.integers(0, 1024),
    answer_tokens=st.integers(1, 512),
)


def views(frames: int = 6, size: tuple[int, int] = (1280, 720), tokens: int = 1024) -> list[View]:
    blank = np.zeros((size[1], size[0], 3), np.uint8)
    clip = Clip.from_frames([blank] * frames, fps=2.0)
    return list(ways_to_show(clip, Preprocessor(), tokens, 256))


VIEWS = views()


def worth(made: Plan) -> tuple[int, int, int]:
    assert made.view is not None
    return made.view.visual_tokens, made.answer_tokens, made.thinking_tokens


@given(rates, aheads, st.floats(0.01, 60), st.floats(1, 1.6))
def test_a_plan_is_in_time_by_its_own_prediction_or_the_least_there_is(
    rates: Rates, ahead: Ahead, seconds: float, margin: float
) -> None:
    made = plan(VIEWS, ahead, seconds, Costs(rates, 128, 30, margin))
    if made.fits:
        assert made.predicted_s * margin <= seconds * (1 + 1e-9)
    else:
        assert made.view == VIEWS[-1]
        few = min(FEW_WORDS, ahead.answer_tokens) if ahead.questions else 0
        assert (made.answer_tokens, made.thinking_tokens) == (few, 0)
    assert made.predicted_s == pytest.approx(made.look_s + made.after_s)


@given(rates, aheads, st.lists(st.floats(0.01, 60), min_size=2, max_size=6))
def test_more_time_never_gives_less(rates: Rates, ahead: Ahead, deadlines: list[float]) -> None:
    made = [plan(VIEWS, ahead, s, Costs(rates, 128, 30)) for s in sorted(deadlines)]
    for less, more in pairwise(made):
        assert all(a <= b for a, b in zip(worth(less), worth(more), strict=True))
        assert len(less.given_up) >= len(more.given_up)


@given(rates, aheads)
def test_with_time_enough_nothing_is_given_up(rates: Rates, ahead: Ahead) -> None:
    made = plan(VIEWS, ahead, math.inf, Costs(rates, 128, 30))
    assert made.given_up == () and made.fits and made.view == VIEWS[0]


def test_the_order_of_giving_up() -> None:
    """As the deadline comes nearer: thinking, the answer, size, frames, the answer again, size."""
    ahead = Ahead(question_tokens=30, questions=1, thinking_tokens=256, answer_tokens=64)
    seen: list[tuple[str, ...]] = []
    for seconds in np.geomspace(200, 1, 400):
        made = plan(VIEWS, ahead, float(seconds), Costs(BIG, 128, 30))
        if made.given_up not in seen:
            seen.append(made.given_up)
        assert made.view is not None
        if made.answer_tokens < SHORT_ANSWER:
            assert made.view.frames == 2 and made.view.visual_tokens <= 64
        if made.view.visual_tokens < 50:
            assert made.answer_tokens == FEW_WORDS
    assert seen == [
        (), ("thinking",), ("thinking", "answer"), ("thinking", "answer", "size"),
        ("thinking", "answer", "size", "frames"),
    ]  # fmt: skip


def test_rules_and_questions_are_counted() -> None:
    ahead = Ahead(question_tokens=30, questions=1, rule_tokens=120, answer_tokens=8)
    costs = Costs(BIG, 128, 30)
    rules = Ahead(rule_tokens=120)
    alone = plan(VIEWS, rules, math.inf, costs)
    both = plan(VIEWS, ahead, math.inf, costs)
    assert alone.answer_tokens == 0 and alone.after_s == pytest.approx(
        BIG.prefill_s(120, 30 + VIEWS[0].visual_tokens)
    )
    assert both.after_s > alone.after_s + 8 * BIG.token[0]
    with pytest.raises(ValueError, match="at least one way"):
        plan([], ahead, 1.0, costs)


def test_the_ways_to_show_a_clip_become_fewer_and_smaller() -> None:
    tokens = [view.visual_tokens for view in VIEWS]
    assert tokens == sorted(tokens, reverse=True) and len(set(tokens)) == len(tokens)
    frames = [view.frames for view in VIEWS]
    assert frames[0] == 6 and frames[-1] == 2 and set(frames) == {6, 4, 2}
    for view in VIEWS:
        smallest = min(view.patches)
        assert view.frames == 2 or smallest > 40, "size goes first, down to about 64 a pair"
    assert tokens[-1] <= 16
    assert [view.frames for view in views(frames=1)][-1] == 1
    assert len(views(tokens=16)) == 1


def test_an_answer_says_only_what_it_would_have_used() -> None:
    ahead = Ahead(10, 1, thinking_tokens=100, answer_tokens=50)
    made = plan([None], ahead, 1e9, Costs(BIG, 128, 30))
    assert given_up_in_answer(ahead, made, thought=90, said=50, out_of_time=False) is None
    cut = plan([None], ahead, 25.0, Costs(BIG, 128, 30))
    assert 0 < cut.thinking_tokens < 100
    short = given_up_in_answer(ahead, cut, thought=3, said=9, out_of_time=False)
    assert short is None, "it had thought all that it wanted"
    told = given_up_in_answer(ahead, cut, thought=cut.thinking_tokens, said=7, out_of_time=True)
    assert told is not None and told.reason == "deadline"
    assert told.asked == {"thinking_tokens": 100, "answer_tokens": 50}
    assert told.used == {"thinking_tokens": cut.thinking_tokens, "answer_tokens": 7}


def figures(rates: Rates) -> list[Figure]:
    found = [Figure("resize", 1000, 0, (rates.resize * 1000,))]
    found += [Figure("vision", n, 0, (rates.vision_s([n]),)) for n in (64, 196, 400)]
    for depth in (0, 1024):
        for n in (16, 64, 256):
            found.append(Figure("prefill", n, depth, (9.0, rates.prefill_s(n, depth), 0.0)))
        found.append(Figure("token", 8, depth, (rates.tokens_s(8, depth),)))
    return found


def test_rates_that_figures_were_made_of_are_found_again() -> None:
    found = rates_of(figures(BIG), 512)
    for name in ("vision", "prefill", "token"):
        assert getattr(found, name) == pytest.approx(getattr(BIG, name), rel=1e-3, abs=1e-12)
    assert Rates.from_plain(vars(found)) == found
    assert found.vision_s([300, 300]) == pytest.approx(2 * BIG.vision_s([300]), rel=1e-3)


@given(st.lists(st.floats(1e-4, 10), min_size=7, max_size=7))
def test_rates_are_never_negative(seconds: list[float]) -> None:
    """Whatever noise the figures are made of, more work never takes less time."""
    made = [Figure("resize", 1000, 0, (seconds[0],))]
    made += [Figure("vision", n, 0, (s,)) for n, s in zip((36, 144), seconds[1:3], strict=True)]
    made += [Figure("prefill", n, 0, (s,)) for n, s in zip((16, 64), seconds[3:5], strict=True)]
    made += [Figure("token", 3, d, (s,)) for d, s in zip((0, 99), seconds[5:], strict=True)]
    found = rates_of(made, 512)
    assert min(found.resize, *found.vision, *found.prefill, *found.token) >= 0
    assert 0 < found.vision_s([100]) <= found.vision_s([200])
    assert 0 < found.prefill_s(40, 10) <= found.prefill_s(80, 10) <= found.prefill_s(80, 500)
    assert 0 < found.tokens_s(4, 10) <= found.tokens_s(4, 10, beside=3)


def test_a_token_costs_something_however_the_figures_jitter() -> None:
    """64 tokens that took a little more than four times what 16 did, as on a noisy machine."""
    made = [f for f in figures(BIG) if f.stage != "prefill"]
    made += [Figure("prefill", n, 0, (s,)) for n, s in ((16, 1.72), (64, 6.94))]
    found = rates_of(made, 512)
    assert found.prefill_s(64, 0) == pytest.approx(6.94, rel=0.01)
    assert found.prefill_s(256, 0) == pytest.approx(4 * 6.94, rel=0.1)


def work(pace: Pace, slower: float, random: np.random.Generator) -> list[float]:
    """A window on a machine so many times slower: errors of the predictions."""
    errors = []
    for stage, seconds in (("vision", 1.0), ("vision", 1.0), ("prefill", 2.0), ("decide", 0.5)):
        now = pace.now()
        factor = {
            "vision": now.vision[0] / pace.rates.vision[0],
            "prefill": now.prefill[0] / pace.rates.prefill[0],
            "decide": now.decide * now.prefill[0] / pace.rates.prefill[0],
        }[stage]
        own = {"vision": 1.2, "prefill": 0.9, "decide": 1.1}[stage]
        predicted = seconds * factor
        actual = seconds * own * slower * float(np.exp(random.normal(0, 0.02)))
        errors.append(abs(predicted - actual) / actual)
        pace.observe(stage, predicted, actual)  # type: ignore[arg-type]
    return errors


def test_a_pace_learns_what_a_stage_and_what_the_machine_does() -> None:
    pace, random = Pace(BIG), np.random.default_rng(0)
    for _ in range(40):
        errors = work(pace, 1.0, random)
    assert max(errors) < 0.08 and pace.margin < 1.2
    work(pace, 2.0, random)
    assert pace.margin > 1.3, "a surprise makes it careful"
    for _ in range(8):
        errors = work(pace, 2.0, random)
    assert max(errors) < 0.15 and pace.ratio > 1.5, "another process has a core"
    for _ in range(40):
        errors = work(pace, 1.0, random)
    assert max(errors) < 0.1 and pace.margin < 1.2


def test_what_is_short_or_absurd_teaches_little() -> None:
    pace = Pace(BIG)
    pace.observe("token", 1e-5, 1.0)
    pace.observe("vision", 0.0, 1.0)
    assert pace.ratio == pytest.approx(1, rel=1e-2)
    pace.observe("vision", 1.0, 1e6)
    assert pace.ratio < 2


def test_what_is_short_beside_the_rest_makes_nobody_careful() -> None:
    pace, random = Pace(BIG), np.random.default_rng(0)
    for _ in range(20):
        pace.observe("resize", 0.02, 0.02 * math.exp(random.normal(0, 0.7)))
        vision_s = pace.now().vision_s([500])
        pace.observe("vision", vision_s, BIG.vision_s([500]) * math.exp(random.normal(0, 0.02)))
    assert pace.margin < 1.15
    assert pace.ratio == pytest.approx(1, rel=0.1)


def test_what_questions_have_in_common_counts_once() -> None:
    def tokens(*ids: int) -> np.ndarray:
        return np.array(ids, np.int32)

    assert together([]) == 0
    assert together([tokens(1, 2, 3)]) == 3
    assert together([tokens(1, 2, 3), tokens(1, 2, 4, 5)]) == 5


def test_more_questions_than_go_side_by_side_take_turns() -> None:
    def answers_s(questions: int) -> float:
        seen = Foreseen(Ahead(questions=questions), 1000, BIG, None)
        usage, timings = Usage(completion_tokens=51), Timings()
        told = seen.told(Answer("?", "", None, "length", usage, timings))
        after = Costs(BIG, 128, 1000).after_s(None, Ahead(questions=questions), 50)
        assert told.timings.predicted_s == pytest.approx(after)
        return after

    full = answers_s(SIDE_BY_SIDE)
    assert answers_s(2 * SIDE_BY_SIDE) == pytest.approx(2 * full)
    assert answers_s(2 * SIDE_BY_SIDE + 1) == pytest.approx(2 * full + answers_s(1))
    full_s, more_s = (
        Foreseen(Ahead(questions=n), 1000, BIG, None).token_s for n in (SIDE_BY_SIDE, 40)
    )
    assert more_s == full_s > 0, "of a token of those that are side by side"
    questions = [np.array([1, 2, 3, i], np.int32) for i in range(SIDE_BY_SIDE + 1)]
    assert in_groups(questions) == together(questions) + 3, "what they share is read once a turn"
