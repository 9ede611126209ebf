"""Questions about drawn scenes: answers are true, balanced, and tests ask in words of their own."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

from miloco_edge.prompt.grounding import parse_grounding
from models.demo import wordings
from models.demo.questions import SKILLS, Question, ask, questions
from models.demo.scenes import CATEGORIES, SEEDS, Scene, plan, render
from models.demo.scenes.seeds import Dice
from models.demo.truths import STATE_RULES, holds, is_hard
from models.demo.wordings import Templates

TEMPLATES = [value for value in vars(wordings).values() if isinstance(value, Templates)]


@cache
def asked(split: str = "train", clips: int = 100) -> tuple[tuple[Scene, Question], ...]:
    first = SEEDS[split].start
    scenes = [render(seed) for seed in range(first, first + clips)]
    return tuple((scene, question) for scene in scenes for question in questions(scene, 12))


@cache
def rules(clips: int = 3000) -> tuple[Question, ...]:
    """Rules about clips that need not be drawn for it."""
    blank = np.zeros((0, 28, 28, 3), np.uint8)
    asked = (ask(Scene(plan(i), blank, (), blank), Dice(i), "rule") for i in range(clips))
    return tuple(question for question in asked if question is not None)


def test_the_same_questions_every_time_and_others_at_another_draw() -> None:
    scene = render(3)
    assert questions(scene, 5) == questions(scene, 5) != questions(scene, 5, draw=1)


def test_yes_and_no_are_as_frequent() -> None:
    assert len(rules()) == 3000
    share = sum(q.target == "yes" for q in rules()) / len(rules())
    assert 0.46 < share < 0.54


def test_each_category_is_asked_about_with_both_answers() -> None:
    counts = Counter((q.category, q.target) for q in rules())
    for rule in (*CATEGORIES, *STATE_RULES):
        yes, no = counts[rule, "yes"], counts[rule, "no"]
        assert yes + no > 20
        assert 0.3 < yes / (yes + no) < 0.7, rule


def test_three_in_ten_negatives_and_more_are_hard() -> None:
    negatives = [q for q in rules() if q.target == "no"]
    assert sum(q.hard for q in negatives) > 0.3 * len(negatives)
    assert not any(q.hard for q in rules() if q.target == "yes")


def test_rules_are_answered_by_the_ground_truth() -> None:
    words = {("en", "yes"): "yes", ("en", "no"): "no", ("zh", "yes"): "是", ("zh", "no"): "否"}
    for scene, q in asked():
        if q.task == "binary":
            held = holds(scene.plan, q.category)
            assert q.target == ("yes" if held else "no")
            assert q.hard == (not held and is_hard(scene.plan, q.category))
            answer = json.loads(q.answer)["result"] if q.smart_home else q.answer
            assert answer == words[q.language, str(q.target)]


def test_spans_and_boxes_are_read_back_as_the_runtime_reads_them() -> None:
    for scene, q in asked():
        found = parse_grounding(q.answer)
        if q.task == "temporal":
            (event,) = [e for e in scene.plan.events if e.category == q.category]
            assert q.target == [event.start_s, event.end_s]
            assert [(s.start_s, s.end_s) for s in found.spans] == [(event.start_s, event.end_s)]
        elif q.task == "point":
            width, height = scene.plan.size
            assert [list(box.xyxy) for box in found.boxes] == [q.target]
            x0, y0, x1, y1 = found.boxes[0].xyxy
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        else:
            assert not found.spans and not found.boxes


def test_names_are_those_that_are_there_or_none() -> None:
    for scene, q in asked():
        if q.skill == "name":
            names = [wordings.NAMES[c][q.language] for c in scene.plan.categories]
            assert q.answer == q.target
            assert q.answer == (wordings.AND[q.language].join(names) or wordings.NONE[q.language])


def test_thoughts_are_short_and_hold_no_tags() -> None:
    for _, q in asked():
        assert 0 < len(q.thinking) < 300
        assert "<" not in q.thinking and "{" not in q.thinking + q.question
    assert {q.skill for _, q in asked()} == set(SKILLS)
    assert 0.2 < sum(q.language == "zh" for _, q in asked()) / len(asked()) < 0.4


def test_smart_home_answers_are_one_json_object() -> None:
    for _, q in asked():
        if q.smart_home:
            assert list(json.loads(q.answer)) == ["result"]


def test_training_never_uses_the_wordings_of_the_test() -> None:
    assert not any(q.held_out for _, q in (*asked(), *asked("validation", 30)))
    share = [q.held_out for _, q in asked("test", 30)]
    assert 0.3 < sum(share) / len(share) < 0.6
    seen = {q.question for _, q in asked()}
    assert not seen & {q.question for _, q in asked("test", 30) if q.held_out}
    assert len(TEMPLATES) == 7
    for templates in TEMPLATES:
        for language in ("en", "zh"):
            known = templates.of(language, "all")
            assert set(templates.of(language, "first")) < set(known)
            assert len(set(known)) == len(known)
            assert not set(known) & set(templates.of(language, "held_out"))


def test_the_reports_own_wording_is_asked() -> None:
    wanted = "Does the picture meet the following conditions: Someone is making the shaka sign?"
    scene = next(s for s, _ in asked() if "shaka" in s.plan.categories)
    found = {ask(scene, Dice(i), "rule", category="shaka", language="en") for i in range(300)}
    assert wanted in {q.question for q in found if q is not None}


@pytest.mark.parametrize("yes", [True, False])
def test_a_wanted_answer_is_given_or_nothing(yes: bool) -> None:
    for seed in range(20):
        question = ask(render(seed), Dice(seed), "rule", category="reading", yes=yes)
        present = "reading" in render(seed).plan.categories
        assert (question is not None) == (present == yes)
