"""Types for a pair that fits a size: both files together, the least expected loss.

Every weight's loss under every type that it may have is estimated from some of its rows
(quantize.expected_loss), and the best choice that fits is searched for (quantize.budget). Sizes are
those of the files, headers and padding included. The vision tower's FFN, whose width may be no
multiple of a type's block, is tried as it is and padded with zeros (names.mmproj_tensors).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantize.budget import Choice, Size, Solution, solve
from quantize.codec import NEED_IMPORTANCE, Floats, Type, block_size, row_bytes
from quantize.container import padded
from quantize.devices import CANDIDATES, Device
from quantize.errors import BudgetError
from quantize.expected_loss import Trial, expected_losses
from quantize.fit_report import Chosen, FitReport, SensitivityReport, group
from quantize.imatrix import weights as importance_of
from quantize.names import Tensor
from quantize.plan import Plan, Survey
from quantize.recipes.recipe import Contents, Recipe, choose_types, role
from quantize.sensitivity import Sensitivity, read_sensitivity
from quantize.stream import Progress

logger = logging.getLogger("miloco_edge.quantize")

_PADDINGS = (1, 32, 256)

_Key = tuple[str, int]
"""A weight's name and columns; padding changes the columns, and so the blocks."""


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
    every = [tensor for pair in pairs.values() for each in pair for tensor in each.weights]
    factors = read_sensitivity(target.sensitivity, every) if target.sensitivity else None
    losses = _losses(survey, target, pairs, threads, progress)
    solved: dict[int, tuple[Solution, list[Chosen]]] = {}
    smallest = []
    for pad, pair in pairs.items():
        members = [(contents, tensor) for contents in pair for tensor in contents.weights]
        options = [_options(tensor, losses[_key(tensor)], factors) for _, tensor in members]
        overhead = _overhead(survey, target, pad, (tensor for _, tensor in members))
        smallest.append(overhead + sum(min(c.nbytes for c in o.values()) for o in options))
        solution = solve([list(o.values()) for o in options], target.size.nbytes - overhead)
        if solution is not None:
            solved[pad] = (
                solution,
                [
                    Chosen(contents.file, tensor, list(o)[i], o)
                    for (contents, tensor), o, i in zip(
                        members, options, solution.chosen, strict=True
                    )
                ],
            )
    if not solved:
        raise BudgetError(target.name, target.size.nbytes, min(smallest))
    pad = min(solved, key=lambda pad: (solved[pad][0].loss, solved[pad][0].nbytes))
    solution, chosen = solved[pad]
    types = {each.tensor.name: each.type for each in chosen}
    plans = survey.plan(out, *_recipes(target, pad, types))
    spent = sum(plan.layout.size for plan in plans)
    assert spent <= target.size.nbytes
    is_largest = all(
        each.choice.loss == min(c.loss for c in each.choices.values()) for each in chosen
    )
    if is_largest:
        logger.warning(
            "the largest pair of types for %s takes %d bytes, %d less than the budget",
            target.device.name, spent, target.size.nbytes - spent,
        )  # fmt: skip
    least = min(solution.loss - solution.gap for solution, _ in solved.values())
    return plans, FitReport(
        budget=target.size.nbytes,
        spent=spent,
        loss=solution.loss,
        gap=max(0.0, solution.loss - least),
        is_largest=is_largest,
        pad_ffn=pad,
        device=target.device.name,
        refused=target.device.refused,
        sensitivity=SensitivityReport(str(factors.path), factors.sha256) if factors else None,
        groups=group(chosen),
        losses={each.tensor.name: each.choice.loss for each in chosen},
        seconds=round(time.perf_counter() - started, 3),
    )


def _pairs(survey: Survey, target: Target) -> dict[int, tuple[Contents, Contents]]:
    """Both files by how the vision tower's FFN is padded: each width once."""
    paddings = (target.mmproj.pad_ffn,) if target.mmproj else _PADDINGS
    widths: dict[int, int] = {}
    for pad in paddings:
        widths.setdefault(survey.vision(pad).padded_ffn, pad)
    text = survey.text()
    return {pad: (text, survey.mmproj(pad)) for pad in widths.values()}


def _key(tensor: Tensor) -> _Key:
    return tensor.name, tensor.columns


def _losses(
    survey: Survey,
    target: Target,
    pairs: Mapping[int, tuple[Contents, Contents]],
    threads: int,
    progress: Progress | None,
) -> Mapping[_Key, Mapping[Type, float]]:
    """Estimate what every type that a weight may have would cost."""
    trials: dict[_Key, Trial] = {}
    for contents in (contents for pair in pairs.values() for contents in pair):
        given = target.mmproj if contents.file == "mmproj" else None
        fixed = {t.name: (type,) for t, type in choose_types(given, contents)} if given else {}
        for tensor in contents.weights:
            importance = _importance(survey, tensor)
            types = fixed.get(tensor.name) or _candidates(target, contents, tensor, importance)
            trials.setdefault(_key(tensor), Trial(tensor, types, importance))
    found = expected_losses(
        survey.source, tuple(trials.values()), threads=threads, progress=progress
    )
    return dict(zip(trials, found, strict=True))


def _importance(survey: Survey, tensor: Tensor) -> Floats | None:
    if survey.guide is None:
        return None
    columns = tensor.unpadded[-1]
    found = importance_of(survey.guide.imatrix, tensor.name, columns)
    return None if found is None else np.pad(found, (0, tensor.columns - columns))


def _candidates(
    target: Target, contents: Contents, tensor: Tensor, importance: Floats | None
) -> Sequence[Type]:
    """Types that the device is fast with, whose blocks fit, and that need no more than we know.

    The embedding is looked up, which is as fast with any type. Where no type is left, BF16.
    """
    is_looked_up = role(tensor) == "token_embd" and "output" in contents.roles
    types = [
        type
        for type in (CANDIDATES if is_looked_up else target.device.allowed[contents.file])
        if tensor.columns % block_size(type) == 0
        and (importance is not None or type not in NEED_IMPORTANCE)
    ]
    return sorted(types) or [Type.BF16]


def _options(
    tensor: Tensor, losses: Mapping[Type, float], factors: Sensitivity | None
) -> dict[Type, Choice]:
    factor = factors.factors.get(tensor.name, 1.0) if factors else 1.0
    return {type: Choice(_nbytes(tensor, type), factor * loss) for type, loss in losses.items()}


def _nbytes(tensor: Tensor, type: Type) -> int:
    """Bytes in the file."""
    return padded(tensor.count // tensor.columns * row_bytes(type, tensor.columns))


def _overhead(survey: Survey, target: Target, pad: int, members: Iterable[Tensor]) -> int:
    """Bytes of both files besides the weights; what types these have does not change it."""
    any_types = dict.fromkeys((tensor.name for tensor in members), Type.Q8_0)
    plans = survey.plan(Path(), *_recipes(target, pad, any_types))
    return sum(
        plan.layout.size
        - sum(padded(each.nbytes) for each in plan.layout.tensors if each.tensor.name in any_types)
        for plan in plans
    )


def _recipes(target: Target, pad: int, types: Mapping[str, Type]) -> tuple[Recipe, Recipe]:
    """The recipe that gives weights these types, and the mmproj's."""

    def choice(contents: Contents) -> Mapping[str, Type]:
        return {tensor.name: types[tensor.name] for tensor in contents.weights}

    recipe = Recipe(target.name, choice, choice, pad_ffn=pad)
    return recipe, target.mmproj or recipe
