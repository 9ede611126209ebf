"""A rule as a question whose answer is yes or no, and the words that answer it."""

from __future__ import annotations

import re
from typing import Literal

from miloco_edge.prompt.chat import Language

# The form that the makers ask in (arXiv 2512.17436, table 1), and the shipped hub's in Chinese.
_QUESTION: dict[Language, tuple[str, str]] = {
    "en": ("Does the picture meet the following conditions: ", "?"),
    "zh": ("图片是否满足以下条件：", "。"),
}
SMART_HOME_PREFIX = '{"result": "'
"""What every answer in smart-home mode begins with."""

Verdict = Literal["yes", "no"]
WORDS: dict[Verdict, tuple[str, ...]] = {
    "yes": ("yes", "Yes", "YES", "是", "是的", "有", "对"),
    "no": ("no", "No", "NO", "否", "不", "不是", "不对", "没", "没有"),
}
"""How answers begin. What goes on from one of them ("No, nobody") is counted with it."""


def rule_question(rule: str, language: Language | None = None) -> str:
    """The question that a rule asks of a picture or clip.

    A rule is a statement ("Someone is reading"); one that ends in a question mark is asked as it
    is. The language is the rule's own unless it is given.
    """
    rule = rule.strip()
    if rule.endswith(("?", "？")):
        return rule
    before, after = _QUESTION[language or language_of(rule)]
    return f"{before}{rule.rstrip(' .。!！')}{after}"


def language_of(text: str) -> Language:
    """Chinese if there is any Chinese character in it, else English."""
    return "zh" if re.search("[\u4e00-\u9fff]", text) else "en"


def spellings(verdict: Verdict) -> list[str]:
    """All ways to begin the answer, with and without a space in front."""
    return [space + word for space in ("", " ") for word in WORDS[verdict]]
