"""What an answer is worth: the report's rewards, accuracy 0.9 and format 0.1.

Accuracy is temporal IoU for "when", box IoU for "where", exact match for all else
(MiMo-VL-Miloco's report, section on reinforcement learning).
"""

from __future__ import annotations

import json

from miloco_edge.evaluate.metrics import box_iou, span_iou
from miloco_edge.prompt.grounding import parse_grounding
from miloco_edge.prompt.thinking import CLOSE, OPEN, split_thinking
from models.demo.questions import Question

ACCURACY, FORMAT = 0.9, 0.1


def reward(item: Question, said: str, *, think: bool, ended: bool) -> float:
    """From 0 to 1. `ended` says whether the model closed its turn."""
    _, answer = split_thinking(said)
    good = is_formed(item, said, think=think) and ended
    return ACCURACY * accuracy(item, answer) + FORMAT * good


def accuracy(item: Question, answer: str) -> float:
    """From 0 to 1, for an answer without its thought."""
    found = parse_grounding(answer)
    if item.task == "temporal" and isinstance(item.target, list):
        spans = found.spans
        return span_iou((spans[0].start_s, spans[0].end_s), item.target) if spans else 0.0
    if item.task == "point" and isinstance(item.target, list):
        return box_iou(found.boxes[0].xyxy, item.target) if found.boxes else 0.0
    return float(answer.strip() == item.answer)


def is_formed(item: Question, said: str, *, think: bool) -> bool:
    """One thought if asked to think and none if not, then an answer of the asked-for form."""
    tags = (said.count(OPEN), said.count(CLOSE))
    thinking, answer = split_thinking(said)
    if tags != ((1, 1) if think else (0, 0)) or (think and thinking is None) or not answer:
        return False
    if item.smart_home:
        return _is_result(answer)
    found = parse_grounding(answer)
    if item.task == "temporal":
        return len(found.spans) == 1
    return len(found.boxes) == 1 if item.task == "point" else True


def _is_result(answer: str) -> bool:
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and list(value) == ["result"]
