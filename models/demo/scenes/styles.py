"""How things are drawn: outlines, shading, colours. One style is kept from training."""

from __future__ import annotations

from dataclasses import dataclass

from models.demo.scenes.seeds import Dice

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


@dataclass(frozen=True)
class Style:
    """A way of drawing."""

    name: str
    outline: float = 0.0
    """Width in thousandths of the frame's height; 0 draws none."""
    outline_shade: float = 0.2
    """The outline is the shape's colour, so much darker (0 is black)."""
    highlight: float = 0.0
    """How much lighter the lit side of a shape is."""
    shadow: float = 0.0
    """Distance of a hard shadow below and right of a shape, in thousandths of the height."""
    square: bool = False
    """Limbs end square instead of round."""
    saturation: float = 1.0
    lift: float = 0.0
    """How far colours move towards white (or, below 0, black)."""

    def tone(self, color: Color) -> Color:
        """A colour as this style has it."""
        grey = luma(color)
        target = 255 if self.lift > 0 else 0
        return mix(
            tuple(_byte(grey + (c - grey) * self.saturation) for c in color),  # type: ignore[arg-type]
            (target, target, target),
            abs(self.lift),
        )


def mix(first: Color, second: Color, share: float) -> Color:
    """`first` with so much of `second` in it."""
    r, g, b = (_byte(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return r, g, b


def luma(color: Color) -> float:
    """How bright a colour is, 0 to 255."""
    return (color[0] * 3 + color[1] * 6 + color[2]) / 10


def shade(color: Color, factor: float) -> Color:
    """The colour times `factor`."""
    r, g, b = (_byte(c * factor) for c in color)
    return r, g, b


def _byte(value: float) -> int:
    return min(255, max(0, round(value)))


HELD_OUT = "papercut"
TRAINING = ("flat", "comic", "shaded", "pastel")


def choose(dice: Dice, name: str) -> Style:
    """A style by name, with what varies within it."""
    if name == "flat":
        return Style(name, saturation=dice.uniform(0.7, 1.2), lift=dice.uniform(-0.1, 0.1))
    if name == "comic":
        return Style(
            name,
            outline=dice.uniform(4, 8),
            outline_shade=dice.uniform(0.05, 0.3),
            saturation=dice.uniform(0.8, 1.3),
        )
    if name == "shaded":
        return Style(
            name,
            highlight=dice.uniform(0.25, 0.5),
            outline=dice.uniform(0, 5),
            outline_shade=0.55,
            saturation=dice.uniform(0.6, 1.1),
        )
    if name == "pastel":
        return Style(
            name,
            outline=dice.uniform(4, 7),
            outline_shade=dice.uniform(0.45, 0.7),
            saturation=dice.uniform(0.5, 0.9),
            lift=dice.uniform(0.1, 0.25),
        )
    if name == HELD_OUT:
        return Style(
            name,
            square=True,
            shadow=dice.uniform(7, 13),
            saturation=dice.uniform(0.5, 0.8),
            lift=dice.uniform(0.05, 0.15),
        )
    raise ValueError(f"style: expected one of {(*TRAINING, HELD_OUT)}, got {name!r}")
