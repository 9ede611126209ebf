"""A result as pictures: where the time goes, what the machine holds, how near to its roof it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from miloco_edge.measure.capacity import Capacity
from miloco_edge.measure.roofline import Machine, Point
from miloco_edge.measure.statistics import Estimate

WIDTH, HEIGHT, MARGIN = 760, 420, 70
_PAPER, _INK, _GREY = (255, 255, 255), (30, 30, 30), (150, 150, 150)
_COLOURS = (
    (120, 144, 156), (255, 179, 0), (141, 110, 99), (21, 101, 192), (198, 40, 40), (46, 125, 50),
    (106, 27, 154),
)  # fmt: skip
# Stages that follow one another; the rest of the total is the answer's tokens and ours.
_PARTS = (
    ("wait_s", "wait"), ("decode_s", "decode video"), ("resize_s", "resize"), ("vision_s", "ViT"),
    ("prefill_s", "prefill"), ("decision_s", "decision"),
)  # fmt: skip


def draw_breakdown(document: Mapping[str, Any]) -> Image.Image:
    """Bars of the cold and of the median warm window, stage after stage."""
    picture, pen, font = _page("Seconds of a window, stage by stage (warm: medians)")
    bars = {kind: _shares(document["stages"][kind]) for kind in ("cold", "warm")}
    longest = max(sum(shares.values()) for shares in bars.values()) or 1.0
    scale = (WIDTH - 2 * MARGIN) / longest
    for row, (kind, shares) in enumerate(bars.items()):
        top, left = 90 + row * 80, float(MARGIN)
        pen.text((10, top + 16), kind, _INK, font)
        for i, seconds in enumerate(shares.values()):
            right = left + seconds * scale
            pen.rectangle((left, top, right, top + 46), _COLOURS[i])
            left = right
        pen.text((MARGIN, top + 50), f"{sum(shares.values()):.3g} s", _INK, font)
    for i, name in enumerate(bars["warm"]):
        x, y = MARGIN + i % 4 * 160, 280 + i // 4 * 24
        pen.rectangle((x, y, x + 12, y + 12), _COLOURS[i])
        pen.text((x + 18, y), name, _INK, font)
    return picture


def _shares(stages: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each part, and what is left of the total."""

    def median(stage: str) -> float:
        return stages[stage]["p50"]["value"] if stages[stage] else 0.0

    parts = {name: median(stage) for stage, name in _PARTS}
    parts["answer"] = max(0.0, median("total_s") - sum(parts.values()))
    return parts


def draw_capacity(capacity: Capacity) -> Image.Image:
    """Cameras by interval, a line for each number of rules."""
    title = f"Cameras held, 95 % of windows decided within {capacity.deadline_s:g} s of their end"
    picture, pen, font = _page(title)
    intervals = sorted({held.interval_s for held in capacity.held})
    most = max((held.cameras for held in capacity.held), default=0) or 1
    _axes(pen)
    for i, interval in enumerate(intervals):
        pen.text((_across(i, len(intervals)) - 20, HEIGHT - 60), f"{interval:g} s", _INK, font)
    pen.text((WIDTH - 200, HEIGHT - 36), "interval of each camera", _GREY, font)
    for part in sorted({0, most // 2, most}):
        pen.text((34, _up(part / most) - 6), str(part), _INK, font)
    for row, rules in enumerate(sorted(capacity.service_s)):
        held = sorted((h for h in capacity.held if h.rules == rules), key=lambda h: h.interval_s)
        line = [(_across(i, len(held)), _up(h.cameras / most)) for i, h in enumerate(held)]
        colour = _COLOURS[(row + 3) % len(_COLOURS)]
        _line(pen, line, colour)
        pen.text((MARGIN + 20, 50 + 18 * row), f"{rules} rules", colour, font)
    return picture


def draw_roofline(machine: Machine, points: Sequence[Point]) -> Image.Image:
    """Operations a second by operations for each byte, both logarithmic, under the roof."""
    picture, pen, font = _page("Roofline: GFLOP/s by operations for each byte of weights")
    peak = max(machine.text_flops, machine.vision_flops)
    xs = [p.intensity for p in points] + [peak / machine.bandwidth]
    low_x, high_x = math.log10(min(xs)) - 0.5, math.log10(max(xs)) + 0.5
    high_y = math.log10(max([peak, *(p.flops for p in points)])) + 0.3
    low_y = min(
        math.log10(min([peak, *(p.flops for p in points)])),
        math.log10(machine.bandwidth) + low_x,
    )

    def at(intensity: float, flops: float) -> tuple[float, float]:
        across = (math.log10(intensity) - low_x) / (high_x - low_x)
        return (
            MARGIN + across * (WIDTH - 2 * MARGIN),
            _up((math.log10(flops) - low_y) / (high_y - low_y)),
        )

    _axes(pen)
    for name, flops, colour in (
        ("text kernel", machine.text_flops, _COLOURS[3]),
        ("ViT kernel", machine.vision_flops, _COLOURS[5]),
    ):
        knee = flops / machine.bandwidth
        start = 10**low_x
        roof = [at(start, machine.bandwidth * start), at(knee, flops), at(10**high_x, flops)]
        _line(pen, roof, colour, dots=False)
        label = roof[-1]
        pen.text((label[0] - 170, label[1] - 16), f"{name} {flops / 1e9:.0f}", colour, font)
    for point in points:
        x, y = at(point.intensity, point.flops)
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), _COLOURS[4])
        pen.text((x + 8, y - 6), f"{point.stage} {point.share:.0%}", _INK, font)
    pen.text((MARGIN, HEIGHT - 60), f"memory {machine.bandwidth / 1e9:.1f} GB/s", _GREY, font)
    return picture


def draw_bars(title: str, bars: Mapping[str, Estimate]) -> Image.Image:
    """A bar for each name, with its interval as a line; the shorter the better."""
    picture, pen, font = _page(title)
    left, step = 230, (HEIGHT - 80) / max(1, len(bars))
    scale = (WIDTH - left - 110) / max((bar.high for bar in bars.values()), default=1.0)
    for row, (name, bar) in enumerate(bars.items()):
        top = 50 + row * step
        middle = top + step / 2 - 4
        pen.text((14, middle - 7), name, _INK, font)
        pen.rectangle((left, top, left + bar.value * scale, top + step - 8), _COLOURS[row % 7])
        pen.line(((left + bar.low * scale, middle), (left + bar.high * scale, middle)), _INK, 2)
        pen.text((left + bar.high * scale + 8, middle - 7), f"{bar.value:.3g}", _INK, font)
    return picture


def _page(title: str) -> tuple[Image.Image, ImageDraw.ImageDraw, Any]:
    picture = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    pen.text((20, 18), title, _INK, font)
    return picture, pen, font


def _axes(pen: ImageDraw.ImageDraw) -> None:
    pen.line(((MARGIN, 40), (MARGIN, HEIGHT - 70), (WIDTH - 20, HEIGHT - 70)), _GREY)


def _line(
    pen: ImageDraw.ImageDraw,
    points: Sequence[tuple[float, float]],
    colour: tuple[int, int, int],
    *,
    dots: bool = True,
) -> None:
    pen.line(list(points), colour, width=2)
    for x, y in points if dots else ():
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour)


def _across(i: int, count: int) -> float:
    return MARGIN + 30 + i * (WIDTH - 2 * MARGIN - 30) / max(1, count - 1)


def _up(share: float) -> float:
    return HEIGHT - 70 - share * (HEIGHT - 120)
