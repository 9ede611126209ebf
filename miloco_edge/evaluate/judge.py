"""What an answer says, and whether it is right: pure functions of its text and grounding.

An answer that cannot be read is wrong, never left out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass

from miloco_edge.evaluate.manifest import LETTERS, Item
from miloco_edge.evaluate.metrics import box_iou, is_inside, span_iou
from miloco_edge.types import Box, Point, Span

HIT_IOU = 0.5
"""A span counts as found from here on, where only right or wrong is asked."""

# "No." and "Yes, she is"; 不是 and 没有 before 是 and 有.
_YES_NO = re.compile(r"\W*(?:(?P<yes>yes\b|是|有|对)|(?P<no>no\b|否|不|没))", re.IGNORECASE)
# "The answer is (B)." (MMLU-Pro's own rule); "B", "(B)", "B. the red one"; a lone "(B)" in a text.
# A small a with a word behind it is the article: "The answer is a dog."
_STATED = re.compile(
    r"(?i:answer|option|答案)\s*(?i:is|为|是|:|：)+\s*\**\(?([A-Zb-z]|a(?!\s+\w))(?![A-Za-z])"
)
_LEADING = re.compile(r"\W*([A-Z])\W*(?:$|\n)|\W*([A-Z])[).:：、，,]")
_WORDS = re.compile(r"-?\d+(?:\.\d+)*|[^\W\d_]+")
_BRACKETED = re.compile(r"\(([A-Z])\)")


@dataclass(frozen=True)
class Verdict:
    """How an answer was read and what it is worth."""

    readable: bool
    right: bool
    yes: bool | None = None
    """What a binary item was answered."""
    iou: float | None = None
    """Of the span or the box with the target; 0 where there was none to read."""


def judge(
    item: Item,
    text: str,
    boxes: tuple[Box, ...] = (),
    points: tuple[Point, ...] = (),
    spans: tuple[Span, ...] = (),
) -> Verdict:
    """Judge an answer by its item's task.

    The first box, point or span counts. A place is right where the point, or the box's centre,
    lies inside the target; a span where its IoU is at least 0.5.
    """
    match item.task:
        case "binary":
            yes = read_yes_no(text)
            return Verdict(yes is not None, yes is (item.target == "yes"), yes)
        case "choice":
            letter = read_letter(text, item.options)
            return Verdict(letter is not None, letter == item.target)
        case "temporal":
            if not spans:
                return Verdict(readable=False, right=False, iou=0.0)
            iou = span_iou((spans[0].start_s, spans[0].end_s), _floats(item))
            return Verdict(True, iou >= HIT_IOU, iou=iou)
        case "point":
            return _judge_place(_floats(item), boxes, points)
        case "exact":
            said = plain(text)
            return Verdict(bool(said), said in {plain(str(target)) for target in item.target})


def _floats(item: Item) -> tuple[float, ...]:
    return tuple(float(value) for value in item.target)


def _judge_place(
    target: tuple[float, ...], boxes: tuple[Box, ...], points: tuple[Point, ...]
) -> Verdict:
    if boxes:
        x0, y0, x1, y1 = boxes[0].xyxy
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        return Verdict(True, is_inside(centre, target), iou=box_iou(boxes[0].xyxy, target))
    if points:
        return Verdict(True, is_inside(points[0].xy, target))
    return Verdict(readable=False, right=False, iou=0.0)


def read_yes_no(text: str) -> bool | None:
    """Whether an answer begins with a yes or a no, in English or Chinese; None for neither."""
    found = _YES_NO.match(unwrap(text))
    return None if found is None else found["yes"] is not None


def read_letter(text: str, options: tuple[str, ...]) -> str | None:
    """The option that an answer names by its letter, or by its text and nothing else."""
    text = unwrap(text)
    said = plain(text)
    for letter, option in zip(LETTERS, options, strict=False):
        if said and said == plain(option):
            return letter
    letters = LETTERS[: len(options)]
    found = [*_STATED.findall(text)[-1:]]
    if leading := _LEADING.match(text):
        found.append(leading[1] or leading[2])
    found += _BRACKETED.findall(text)[:1]
    return next((letter.upper() for letter in found if letter.upper() in letters), None)


def unwrap(text: str) -> str:
    """The answer inside a smart-home reply, {"result": ANSWER}; any other text as it is."""
    try:
        reply = json.loads(text)
    except ValueError:
        return text.strip()
    found = reply.get("result") if isinstance(reply, dict) else None
    return found.strip() if isinstance(found, str) else text.strip()


def plain(text: str) -> str:
    """Text without what does not matter to an exact match: case, width, marks, spaces."""
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", unwrap(text)).casefold()))
