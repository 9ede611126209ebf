"""A picture of a fitted pair: the bits of every weight by layer, and the loss they are expected to
cost beside them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from quantize.codec import Type
from quantize.devices import bits_per_weight
from quantize.fit_report import FitReport, GroupReport
from quantize.manifest import TensorReport

_NAME, _CELL, _ROW, _BAR, _MARGIN = 190, 18, 20, 240, 12
_FEW, _MANY = (198, 40, 40), (21, 101, 192)  # colours of 3 bits and of 9 and more
_INK, _GREY, _PAPER = (30, 30, 30), (130, 130, 130), (255, 255, 255)


def draw(fit: FitReport, tensors: Sequence[TensorReport]) -> Image.Image:
    """Draw one row for each role: a cell for each layer, then a bar.

    Cells go from red (3 bits per weight) to blue (9 and more) and say the bits. The bar is the
    expected loss; its dark part is what would remain with the next larger types.
    """
    types = {tensor.name: Type[tensor.type] for tensor in tensors}
    rows = [(each, _members(each, types)) for each in fit.groups]
    widest = max(len(members) for _, members in rows)
    bars = _MARGIN + _NAME + widest * _CELL + _MARGIN
    width = bars + _BAR + 150
    picture = Image.new("RGB", (width, _MARGIN * 2 + _ROW * (len(rows) + 2)), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    title = (
        f"{fit.spent / 2**30:.3f} of {fit.budget / 2**30:.3f} GiB, expected loss {fit.loss:.4g}; "
        "bits per weight by layer, from the first to the last"
    )
    pen.text((_MARGIN, _MARGIN), title, _INK, font)
    pen.text((bars, _MARGIN + _ROW), "expected loss (dark: one type larger)", _GREY, font)
    most = max(each.loss for each, _ in rows) or 1.0
    for i, (each, members) in enumerate(rows):
        top = _MARGIN + _ROW * (i + 2)
        pen.text((_MARGIN, top + 3), each.weights.removesuffix(".weight"), _INK, font)
        for j, type in enumerate(members):
            left, bits = _MARGIN + _NAME + j * _CELL, bits_per_weight(type)
            pen.rectangle((left, top, left + _CELL - 2, top + _ROW - 2), _colour(bits))
            pen.text((left + 3, top + 3), f"{int(bits)}", _PAPER, font)  # as in the name
        for loss, colour in ((each.loss, (200, 200, 200)), (each.next_loss, (110, 110, 110))):
            pen.rectangle((bars, top, bars + _BAR * loss / most, top + _ROW - 2), colour)
        size = f"{each.loss:.2e}, {each.bytes / 2**20:.0f} MiB"
        pen.text((bars + _BAR + 6, top + 3), size, _INK, font)
    return picture


def _members(group: GroupReport, types: dict[str, Type]) -> list[Type]:
    """The types of a group's weights, by layer."""
    pattern = re.compile(re.escape(group.weights).replace(r"\*", r"(\d+)"))
    found = [(match, type) for name, type in types.items() if (match := pattern.fullmatch(name))]
    found.sort(key=lambda each: [int(layer) for layer in each[0].groups()])
    return [type for _, type in found]


def _colour(bits: float) -> tuple[int, int, int]:
    share = min(max((bits - 3) / 6, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(_FEW, _MANY, strict=True))
    return red, green, blue
