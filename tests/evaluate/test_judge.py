from __future__ import annotations

import pytest

from miloco_edge.evaluate.judge import Verdict, judge, plain, read_letter, read_yes_no, unwrap
from miloco_edge.evaluate.manifest import Item
from miloco_edge.types import Box, Point, Span

BOX = (10.0, 10.0, 30.0, 20.0)


def item(task: str, target: object, options: tuple[str, ...] = ()) -> Item:
    return Item("1", task, (), "?", target, options=options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("yes", True), ("Yes, she is.", True), ("**YES**", True), ("no", False),
        ("No one is there.", False), ("是的", True), ("是", True), ("否", False), ("不是", False),
        ("没有人", False), ("有", True), ('{"result": "yes"}', True), ('{"result": "否"}', False),
        ("", None), ("Notably, yes", None), ("Yesterday", None), ("I think yes", None),
        ("{broken", None), ("[1]", None),
    ],
)  # fmt: skip
def test_yes_or_no(text: str, yes: bool | None) -> None:
    assert read_yes_no(text) is yes


OPTIONS = ("a red cat", "a dog", "nothing", "10 m")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("(b)".upper(), "B"), ("B.", "B"), ("B. a dog", "B"), ("C) nothing", "C"),
        ("The answer is (D).", "D"), ("Let me see. So the answer is **A**", "A"),
        ("答案是B", "B"), ("a dog", "B"), ("10 m.", "D"), ("I would say (C) here", "C"),
        ("A man with a dog", None), ("E", None), ("", None), ("Both A and B", None),
        ("B\nbecause of the dog", "B"), ('{"result": "C"}', "C"),
        ("The answer is A. No: the answer is B.", "B"),
        ("The answer is a dog.", None), ("answer: b", "B"), ("answer: b since it barks", "B"),
        ("The answer is A because", "A"),
    ],
)  # fmt: skip
def test_letters(text: str, letter: str | None) -> None:
    assert read_letter(text, OPTIONS) == letter


def test_binary_is_right_only_where_it_is_read() -> None:
    assert judge(item("binary", "no"), "No.") == Verdict(True, True, yes=False)
    assert judge(item("binary", "no"), "Yes") == Verdict(True, False, yes=True)
    assert judge(item("binary", "no"), "maybe") == Verdict(False, False, yes=None)


def test_choice() -> None:
    assert judge(item("choice", "B", OPTIONS), "B") == Verdict(True, True)
    assert judge(item("choice", "B", OPTIONS), "hm") == Verdict(False, False)


def test_the_first_span_counts() -> None:
    span, other = Span("", 1, 3), Span("", 2, 6)
    assert judge(item("temporal", (2.0, 6.0)), "", spans=(span, other)).iou == pytest.approx(0.2)
    right = judge(item("temporal", (2.0, 6.0)), "", spans=(other, span))
    assert right == Verdict(True, True, iou=1.0)
    assert judge(item("temporal", (2.0, 6.0)), "no time") == Verdict(False, False, iou=0.0)


def test_a_box_is_judged_by_its_centre_and_a_point_by_itself() -> None:
    centred = Box("", (0, 0, 40, 30))
    aside = Box("", (28, 10, 40, 20))
    point = Point("", (12, 12))
    found = judge(item("point", BOX), "", boxes=(centred,))
    assert found.right and found.iou == pytest.approx(200 / 1200)
    assert not judge(item("point", BOX), "", boxes=(aside,), points=(point,)).right
    assert judge(item("point", BOX), "", points=(point,)) == Verdict(True, True)
    assert judge(item("point", BOX), "there") == Verdict(False, False, iou=0.0)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Watching TV.", True), ("  watching   tv", True), ("ＷＡＴＣＨＩＮＧ TV", True),
        ('{"result": "watching TV"}', True), ("television", True), ("watching", False), ("", False),
    ],
)  # fmt: skip
def test_exact(text: str, right: bool) -> None:
    verdict = judge(item("exact", ("watching TV", "Television")), text)
    assert (verdict.right, verdict.readable) == (right, bool(text))


def test_numbers_keep_their_sign_and_point() -> None:
    assert plain("-3.5 m") == plain("-3.5 M.") != plain("3.5 m")
    assert plain("35") != plain("3.5")
    assert plain("沙卡手势。") == "沙卡手势"


def test_unwrapping_leaves_other_text_alone() -> None:
    assert unwrap('{"result": " ok "}') == "ok"
    assert unwrap('{"answer": "ok"}') == '{"answer": "ok"}'
    assert unwrap(" plain ") == "plain"
