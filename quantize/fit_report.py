"""What a choice of types for a size came to, and what it gave up where."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quantize.budget import Choice
from quantize.codec import Type
from quantize.devices import Refusal
from quantize.names import File, Tensor


@dataclass(frozen=True)
class SensitivityReport:
    """The file of factors that losses were multiplied by."""

    file: str
    sha256: str


@dataclass(frozen=True)
class GroupReport:
    """The weights of one role in one file."""

    file: File
    weights: str
    """Their names, the layer as `*`."""
    types: dict[str, int]
    """How many weights have which, the most frequent first."""
    bytes: int
    loss: float
    next_bytes: int
    """More bytes, were each of them of the next larger type that loses less."""
    next_loss: float
    """Their loss then."""


@dataclass(frozen=True)
class FitReport:
    """How a pair was fitted to a size."""

    budget: int
    spent: int
    """Bytes of both files."""
    loss: float
    """Sum over all weights of the noise that they are expected to add (quantize.expected_loss)."""
    gap: float
    """No choice of the allowed types has less loss than `loss` - `gap`; 0: this is the best one."""
    is_largest: bool
    """Whether a larger budget would change nothing."""
    pad_ffn: int
    """The vision tower's FFN is padded to a multiple of this."""
    device: str
    refused: tuple[Refusal, ...]
    sensitivity: SensitivityReport | None
    groups: tuple[GroupReport, ...]
    losses: dict[str, float]
    """By weight."""
    seconds: float


@dataclass(frozen=True)
class Chosen:
    """A weight, what it became, and what else it could have become."""

    file: File
    tensor: Tensor
    type: Type
    choices: Mapping[Type, Choice]

    @property
    def choice(self) -> Choice:
        """Its bytes and its loss."""
        return self.choices[self.type]

    @property
    def next(self) -> Choice:
        """The smallest larger choice that loses less; its own where there is none."""
        mine = self.choice
        better = [c for c in self.choices.values() if c.nbytes > mine.nbytes and c.loss < mine.loss]
        return min(better, key=lambda c: (c.nbytes, c.loss), default=mine)


def group(chosen: Iterable[Chosen]) -> tuple[GroupReport, ...]:
    """Sum up over layers."""
    groups: dict[tuple[File, str], list[Chosen]] = defaultdict(list)
    for each in chosen:
        groups[each.file, re.sub(r"\bblk\.\d+\.", "blk.*.", each.tensor.name)].append(each)
    return tuple(
        GroupReport(
            file=file,
            weights=name,
            types=dict(Counter(each.type.name for each in members).most_common()),
            bytes=sum(each.choice.nbytes for each in members),
            loss=sum(each.choice.loss for each in members),
            next_bytes=sum(each.next.nbytes - each.choice.nbytes for each in members),
            next_loss=sum(each.next.loss for each in members),
        )
        for (file, name), members in groups.items()
    )
