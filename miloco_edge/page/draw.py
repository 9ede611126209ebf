"""An answer's evidence as HTML: the frames with their times, the tokens, and where time went."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from miloco_edge.page.visit import Exchange, Seen
from miloco_edge.page.words import Language, word
from miloco_edge.types import RGB, Timings

THUMBNAIL = 168
"""Longest side of a frame that is shown, in pixels."""
_COLOURS = {
    "wait": "#8a8f98",
    "video": "#b45309",
    "vision": "#7c3aed",
    "look": "#2563eb",
    "question": "#0e7490",
    "generate": "#15803d",
}
_CARDS = 8
"""Answers whose evidence stays on the page."""


def picture_url(pixels: RGB, longest: int = THUMBNAIL) -> str:
    """A small JPEG of (h, w, 3) uint8 RGB as a data URL."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def stages(seen: Seen, answer: Timings | None, total_s: float) -> list[tuple[str, float]]:
    """Where the seconds of an answer went, by stage; what is left over was spent waiting."""
    look = seen.timings
    parts = [
        ("video", seen.decode_s + (look.video_s or 0.0)),
        ("vision", look.vision_s or 0.0),
        ("look", look.prefill_s or 0.0),
    ]
    if answer is not None:
        parts += [
            ("question", answer.prefill_s or 0.0),
            ("generate", answer.generate_s or 0.0),
        ]
    waited = max(total_s - sum(seconds for _, seconds in parts), 0.0)
    return [("wait", waited), *((name, seconds) for name, seconds in parts if seconds > 0)]


def timing_bar(parts: Sequence[tuple[str, float]], language: Language) -> str:
    """A bar of stages to scale, with their names and seconds in words below."""
    total = sum(seconds for _, seconds in parts) or 1.0
    unit = word("seconds", language)
    x, boxes, legend = 0.0, [], []
    for name, seconds in parts:
        width = 1000 * seconds / total
        boxes.append(f'<rect x="{x:.1f}" width="{width:.1f}" height="24" fill="{_COLOURS[name]}"/>')
        x += width
        said = escape(word(f"stage_{name}", language))
        legend.append(
            f'<li><i style="background:{_COLOURS[name]}"></i>{said} {seconds:.2f} {unit}</li>'
        )
    spoken = escape(", ".join(f"{word(f'stage_{n}', language)} {s:.2f} {unit}" for n, s in parts))
    return (
        f'<svg class="bar" viewBox="0 0 1000 24" preserveAspectRatio="none" role="img" '
        f'aria-label="{spoken}">{"".join(boxes)}</svg><ul class="legend">{"".join(legend)}</ul>'
    )


def evidence(exchanges: Sequence[Exchange], language: Language) -> str:
    """What was seen for each of the newest answers, the newest first and open."""
    known = [exchange for exchange in exchanges if exchange.seen is not None][-_CARDS:]
    cards = [
        _card(exchange, language, newest=number == len(known) - 1)
        for number, exchange in enumerate(known)
    ]
    return f'<div class="evidence">{"".join(reversed(cards))}</div>'


def _card(exchange: Exchange, language: Language, *, newest: bool) -> str:
    seen = exchange.seen
    assert seen is not None
    timings = exchange.answer.timings if exchange.answer is not None else None
    bar = timing_bar(stages(seen, timings, exchange.total_s), language)
    summary = f"{exchange.question[:60]} · {_cost(seen, language)} · {exchange.total_s:.1f} "
    return (
        f"<details {'open' if newest else ''}><summary>{escape(summary)}"
        f"{word('seconds', language)}</summary>{bar}{_frames(seen, newest)}</details>"
    )


def _cost(seen: Seen, language: Language) -> str:
    """Frames, size and visual tokens in words."""
    clip = seen.clip
    if clip is None:
        return word("no_picture", language)
    count = len(clip.frames)
    frames = word("one_frame" if count == 1 else "many_frames", language)
    width, height = clip.size
    said = (
        f"{count} {frames} {width}×{height}, {clip.visual_tokens} {word('visual_tokens', language)}"
    )
    if clip.degraded is not None:
        said += f", {word('less', language)}"
    if seen.reused:
        said += f", {word('reused', language)}"
    return said


def _frames(seen: Seen, newest: bool) -> str:
    """The frames that the model was shown; of older answers their times alone."""
    if seen.clip is None:
        return ""
    if not newest:
        times = " ".join(f"{time_s:.2f}" for time_s in seen.clip.times_s)
        return f'<p class="times">{times}</p>'
    shown = [
        f'<figure><img src="{picture_url(pixels)}" alt="{time_s:.2f} s">'
        f"<figcaption>{time_s:.2f} s</figcaption></figure>"
        for pixels, time_s in zip(seen.clip.frames, seen.clip.times_s, strict=True)
    ]
    return f'<div class="frames">{"".join(shown)}</div>'
