"""Boxes, points and spans in what the model says.

The Qwen2.5-VL family writes them as JSON (`bbox_2d`, `point_2d`, `start_time`), as bare lists, or,
for time, in words ("24.3 - 30.4 seconds"). Coordinates are pixels of the picture that the model
was given, and seconds are its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from miloco_edge.types import Box, Point, Span

_BOX_KEYS = ("bbox_2d", "bbox", "box_2d", "box")
_POINT_KEYS = ("point_2d", "point")
_SPAN_KEYS = (("start_time", "end_time"), ("start", "end"))
_LABEL_KEYS = ("label", "name", "description", "event", "text")

_NUMBER = r"-?\d{1,15}(?:\.\d+)?"
_BARE_BOX = re.compile(
    rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]"
)
_BARE_POINT = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]")
_CLOCK = r"(?:(?:\d{1,4}:)?\d{1,2}:\d{2}(?:\.\d+)?|\d{1,15}(?:\.\d+)?)"
_UNIT = r"\s*(?:s|sec|secs|seconds?|秒)?"
_SPAN = re.compile(
    rf"(?P<start>{_CLOCK}){_UNIT}\s*(?:-|–|—|~|to|and|until|到|至)\s*(?P<end>{_CLOCK})"
    r"\s*(?P<unit>s\b|secs?\b|seconds?\b|秒)?"
)


@dataclass(frozen=True)
class Grounding:
    """What was found, in the model's pixels and seconds."""

    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    spans: tuple[Span, ...] = ()


def parse_grounding(text: str) -> Grounding:
    """All boxes, points and spans of an answer; an answer with none gives three empty tuples."""
    boxes: list[Box] = []
    points: list[Point] = []
    spans: list[Span] = []
    values = list(_json_values(text))
    for item in _objects(values):
        label = next((item[k] for k in _LABEL_KEYS if isinstance(item.get(k), str)), "")
        for key in _BOX_KEYS:
            if (four := _numbers(item.get(key), 4)) is not None:
                boxes.append(_box(label, four))
                break
        for key in _POINT_KEYS:
            if (two := _numbers(item.get(key), 2)) is not None:
                points.append(Point(label, (two[0], two[1])))
                break
        for first, last in _SPAN_KEYS:
            start, end = _seconds(item.get(first)), _seconds(item.get(last))
            if start is not None and end is not None:
                spans.append(_span(label, start, end))
                break
    if not boxes and not points and not spans:
        boxes = [_box("", [float(v) for v in m]) for m in _BARE_BOX.findall(text)]
        if whole := _BARE_POINT.fullmatch(text.strip().removesuffix(".")):
            points = [Point("", (float(whole[1]), float(whole[2])))]
        for match in _SPAN.finditer(_BARE_BOX.sub(" ", text)):
            start, end = _seconds(match["start"]), _seconds(match["end"])
            # "2 - 3" alone may be a count; a unit or a clock makes it a time.
            timed = match["unit"] or ":" in match["start"]
            if timed and start is not None and end is not None:
                spans.append(_span("", start, end))
    return Grounding(tuple(boxes), tuple(points), tuple(spans))


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON array or object that starts somewhere in the text, outermost first."""
    decoder = json.JSONDecoder(parse_int=float)  # int refuses what a model that repeats itself says
    at = 0
    while match := re.compile(r"[\[{]").search(text, at):
        try:
            value, at = decoder.raw_decode(text, match.start())
        except (json.JSONDecodeError, RecursionError):
            at = match.start() + 1
            continue
        yield value


def _objects(values: list[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if isinstance(value, dict):
            yield value
            yield from _objects(list(value.values()))
        elif isinstance(value, list):
            yield from _objects(value)


def _numbers(value: Any, count: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != count:
        return None
    return value if all(map(_is_finite, value)) else None


def _is_finite(value: Any) -> bool:
    """Whether it is a number, which 1e999 and NaN are none of."""
    return isinstance(value, float) and math.isfinite(value)


def _seconds(value: Any) -> float | None:
    """Seconds of 12.5, "12.5", "12.5s", "00:12.50" or "1:00:12"."""
    if _is_finite(value):
        return float(value)
    if not isinstance(value, str) or not re.fullmatch(_CLOCK, bare := value.strip().rstrip("s秒 ")):
        return None
    total = 0.0
    for part in bare.split(":"):
        total = total * 60 + float(part)
    return total


def _box(label: str, corners: list[float]) -> Box:
    x0, y0, x1, y1 = corners
    return Box(label, (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))


def _span(label: str, start: float, end: float) -> Span:
    return Span(label, min(start, end), max(start, end))
