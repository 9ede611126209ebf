from __future__ import annotations

import pytest

from miloco_edge.prompt.decision import WORDS, language_of, rule_question, spellings


@pytest.mark.parametrize(
    ("rule", "question"),
    [
        (
            "Someone is reading.",
            "Does the picture meet the following conditions: Someone is reading?",
        ),
        (" Is the door open? ", "Is the door open?"),
        ("有人在看书。", "图片是否满足以下条件：有人在看书。"),
        ("有人吗？", "有人吗？"),
    ],
)
def test_a_statement_is_asked_and_a_question_is_left(rule: str, question: str) -> None:
    assert rule_question(rule) == question


def test_the_language_may_be_given() -> None:
    assert language_of("TV 开着") == "zh"
    assert rule_question("TV", "zh").startswith("图片")
    assert rule_question("有人", "en").startswith("Does")


def test_no_word_means_both() -> None:
    assert not set(spellings("yes")) & set(spellings("no"))
    assert set(WORDS["yes"]) < set(spellings("yes"))
