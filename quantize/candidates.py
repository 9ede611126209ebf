"""Which types each weight of a pair may have, and what each is expected to cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from quantize.codec import NEED_IMPORTANCE, Floats, Type, block_size
from quantize.devices import CANDIDATES, Device
from quantize.expected_loss import Trial, expected_losses
from quantize.imatrix import weights as importance_of
from quantize.names import Tensor
from quantize.plan import Survey
from quantize.recipes.recipe import Contents, Recipe, choose_types, role
from quantize.stream import Progress

Key = tuple[str, int]
"""A weight's name and columns; padding changes the columns, and so the blocks."""


def key(tensor: Tensor) -> Key:
    """What tells a weight from others and from itself padded."""
    return tensor.name, tensor.columns


def candidate_losses(
    survey: Survey,
    device: Device,
    mmproj: Recipe | None,
    files: Iterable[Contents],
    *,
    threads: int,
    progress: Progress | None,
) -> Mapping[Key, Mapping[Type, float]]:
    """Estimate what every type that `device` is fast with would cost, for all weights of `files`.

    With `mmproj`, those of the vision tower have the types of that recipe.
    """
    trials: dict[Key, Trial] = {}
    for contents in files:
        given = mmproj if contents.file == "mmproj" else None
        fixed = {t.name: (type,) for t, type in choose_types(given, contents)} if given else {}
        layers = 1 + max(tensor.layer or 0 for tensor in contents.weights)
        for tensor in contents.weights:
            importance = _importance(survey, tensor)
            types = fixed.get(tensor.name) or _candidates(device, contents, tensor, importance)
            share = 1.0 if tensor.layer is None else 1 / (2 * layers)
            trials.setdefault(key(tensor), Trial(tensor, types, importance, share))
    found = expected_losses(
        survey.source, tuple(trials.values()), threads=threads, progress=progress
    )
    return dict(zip(trials, found, strict=True))


def _importance(survey: Survey, tensor: Tensor) -> Floats | None:
    """Importances of the columns in the file, padding included."""
    if survey.guide is None:
        return None
    columns = tensor.unpadded[-1]
    found = importance_of(survey.guide.imatrix, tensor.name, columns)
    return None if found is None else np.pad(found, (0, tensor.columns - columns))


def _candidates(
    device: Device, contents: Contents, tensor: Tensor, importance: Floats | None
) -> Sequence[Type]:
    """Types that are fast, whose blocks fit, and that need no more than we know.

    The embedding is looked up, which is as fast with any type. Where no type is left, BF16.
    """
    is_looked_up = role(tensor) == "token_embd" and "output" in contents.roles
    types = [
        type
        for type in (CANDIDATES if is_looked_up else device.allowed[contents.file])
        if tensor.columns % block_size(type) == 0
        and (importance is not None or type not in NEED_IMPORTANCE)
    ]
    return sorted(types) or [Type.BF16]
