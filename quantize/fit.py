"""Types for a pair that fits a size: both files together, the least expected loss.

Every weight's loss under every type that it may have is estimated from some of its rows
(quantize.expected_loss), and the best choice that fits is searched for (quantize.budget). Sizes are
those of the files, headers and padding included. The vision tower's FFN, whose width may be no
multiple of a type's block, is tried as it is and padded with zeros (names.mmproj_tensors).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quantize.budget import Choice, Size, solve
from quantize.candidates import Key, candidate_losses, key
from quantize.codec import Type, row_bytes
from quantize.container import padded
from quantize.devices import Device
from quantize.errors import BudgetError
from quantize.fit_report import Chosen, FitReport, SensitivityReport, group
from quantize.names import Tensor
from quantize.plan import Plan, Survey
from quantize.recipes.recipe import Contents, Recipe
from quantize.sensitivity import read_sensitivity
from quantize.stream import Progress

logger = logging.getLogger("miloco_edge.quantize")

_PADDINGS = (1, 32, 256)

_Pair = tuple[Contents, Contents]
"""Text file and mmproj."""


@dataclass(frozen=True)
class Target:
    """What a pair must fit into, and what it is for."""

    size: Size
    device: Device
    sensitivity: Path | None
    mmproj: Recipe | None
    """The mmproj's types, where they are not to be chosen."""

    @property
    def name(self) -> str:
        """What files and manifest call the recipe."""
        return f"fit-{self.size.text}"


@dataclass(frozen=True)
class _Fitted:
    """The best choice for one padding of the vision tower."""

    pad_ffn: int
    chosen: list[Chosen]
    nbytes: int
    loss: float
    gap: float


def fit(
    survey: Survey, out: Path, target: Target, threads: int, progress: Progress | None
) -> tuple[tuple[Plan, Plan], FitReport]:
    """Choose types and plan both files in the folder `out`.

    Raises BudgetError where the smallest types do not fit, RecipeError or NotFoundError for the
    sensitivities, and what expected_losses raises.
    """
    started = time.perf_counter()
    if survey.guide is None:
        logger.warning(
            "without an imatrix every input counts the same: `miloco-edge calibrate` makes one, "
            "and the choice of types is better with it"
        )
    pairs = _pairs(survey, target)
    files = [contents for pair in pairs.values() for contents in pair]
    weights = [tensor for contents in files for tensor in contents.weights]
    given = read_sensitivity(target.sensitivity, weights) if target.sensitivity else None
    losses = candidate_losses(
        survey, target.device, target.mmproj, files, threads=threads, progress=progress
    )
    best, gap = _best(survey, target, pairs, losses, given.factors if given else {})
    plans = _plan(survey, out, target, best.pad_ffn, {c.tensor.name: c.type for c in best.chosen})
    spent = sum(plan.layout.size for plan in plans)
    is_largest = all(each.next is each.choice for each in best.chosen)
    if is_largest:
        logger.warning(
            "the largest pair of types for %s takes %d bytes, %d less than the budget",
            target.device.name, spent, target.size.nbytes - spent,
        )  # fmt: skip
    return plans, FitReport(
        budget=target.size.nbytes,
        spent=spent,
        loss=best.loss,
        gap=gap,
        is_largest=is_largest,
        pad_ffn=best.pad_ffn,
        device=target.device.name,
        refused=target.device.refused,
        sensitivity=SensitivityReport(str(given.path), given.sha256) if given else None,
        groups=group(best.chosen),
        losses={each.tensor.name: each.choice.loss for each in best.chosen},
        seconds=round(time.perf_counter() - started, 3),
    )


def _pairs(survey: Survey, target: Target) -> dict[int, _Pair]:
    """Both files by how the vision tower's FFN is padded: each width once."""
    paddings = (target.mmproj.pad_ffn,) if target.mmproj else _PADDINGS
    widths: dict[int, int] = {}
    for pad in paddings:
        widths.setdefault(survey.vision(pad).padded_ffn, pad)
    text = survey.text()
    return {pad: (text, survey.mmproj(pad)) for pad in widths.values()}


def _best(
    survey: Survey,
    target: Target,
    pairs: Mapping[int, _Pair],
    losses: Mapping[Key, Mapping[Type, float]],
    factors: Mapping[str, float],
) -> tuple[_Fitted, float]:
    """The choice of least loss over all paddings, and how far from the least possible it may be."""
    fitted: list[_Fitted] = []
    smallest: list[int] = []
    for pad, pair in pairs.items():
        members = [(contents.file, tensor) for contents in pair for tensor in contents.weights]
        options = [
            _options(tensor, losses[key(tensor)], factors.get(tensor.name, 1.0))
            for _, tensor in members
        ]
        overhead = _overhead(survey, target, pad, (tensor for _, tensor in members))
        smallest.append(overhead + sum(min(c.nbytes for c in o.values()) for o in options))
        found = solve([list(o.values()) for o in options], target.size.nbytes - overhead)
        if found is not None:
            chosen = [
                Chosen(*member, list(o)[i], o)
                for member, o, i in zip(members, options, found.chosen, strict=True)
            ]
            fitted.append(_Fitted(pad, chosen, found.nbytes, found.loss, found.gap))
    if not fitted:
        raise BudgetError(target.name, target.size.nbytes, min(smallest))
    best = min(fitted, key=lambda each: (each.loss, each.nbytes))
    return best, best.loss - min(each.loss - each.gap for each in fitted)


def _options(tensor: Tensor, losses: Mapping[Type, float], factor: float) -> dict[Type, Choice]:
    rows = tensor.count // tensor.columns
    return {
        type: Choice(padded(rows * row_bytes(type, tensor.columns)), factor * loss)
        for type, loss in losses.items()
    }


def _overhead(survey: Survey, target: Target, pad: int, weights: Iterable[Tensor]) -> int:
    """Bytes of both files besides the weights, whose types do not change it."""
    types = dict.fromkeys((tensor.name for tensor in weights), Type.Q8_0)
    return sum(
        plan.layout.size
        - sum(padded(each.nbytes) for each in plan.layout.tensors if each.tensor.name in types)
        for plan in _plan(survey, Path(), target, pad, types)
    )


def _plan(
    survey: Survey, out: Path, target: Target, pad: int, types: Mapping[str, Type]
) -> tuple[Plan, Plan]:
    """Plan both files with these types."""

    def choice(contents: Contents) -> Mapping[str, Type]:
        return {tensor.name: types[tensor.name] for tensor in contents.weights}

    recipe = Recipe(target.name, choice, choice, pad_ffn=pad)
    return survey.plan(out, recipe, target.mmproj or recipe)
