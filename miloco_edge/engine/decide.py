"""Rules to decisions: what is asked of a scene, and what the odds amount to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypedDict

from miloco_edge.engine.odds import Reading
from miloco_edge.prompt.chat import Language
from miloco_edge.types import Budget, Calibration, Decision, Timings, Usage

_NONE = 1e-30
"""Stands for no mass at all where a logarithm is taken."""


class DecideOptions(TypedDict, total=False):
    """How to decide."""

    budget: Budget | None
    """Seconds for all rules together; what is not read by then is unknown."""
    language: Language | None
    """Language of the question around each rule; the rule's own by default."""
    as_written: bool
    """The rules are whole questions: ask them as they are."""
    live: bool
    """The clip is a window of a live camera: pictures that are all the same are a frozen one."""
    max_outside_mass: float
    """Unknown above this mass of words that are neither yes nor no."""
    calibration: Calibration | None
    """Instead of the model's own; `Calibration()` leaves the odds as they are."""


class HasText(Protocol):
    """A rule that knows more than its sentence."""

    @property
    def text(self) -> str:
        """The sentence."""
        ...


@dataclass(frozen=True)
class Decided:
    """Decisions and what they cost together."""

    decisions: tuple[Decision, ...]
    """In the order of the rules."""
    usage: Usage
    timings: Timings

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.decisions)


def judge(
    rule: str, reading: Reading, calibration: Calibration, max_outside_mass: float
) -> Decision:
    """The decision that a reading amounts to."""
    if reading.failed is not None:
        return unknown(rule, reading.failed)
    logit = math.log(max(reading.yes, _NONE)) - math.log(max(reading.no, _NONE))
    p_yes = calibration.p_yes(logit)
    outside = min(max(1 - reading.yes - reading.no, 0.0), 1.0)
    if outside > max_outside_mass:
        return Decision(rule, "unknown", p_yes, outside, reading.path, "outside_mass")
    return Decision(rule, "yes" if p_yes >= 0.5 else "no", p_yes, outside, reading.path)


def unknown(rule: str, reason: str) -> Decision:
    """A decision that was not made."""
    return Decision(rule, "unknown", None, None, "none", reason)
