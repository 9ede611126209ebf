"""An imatrix as it bears on one checkpoint: which weights it guides, and how."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.codec import IGNORE_IMPORTANCE, NEED_IMPORTANCE, Type
from quantize.errors import ImatrixError, RecipeError
from quantize.imatrix import Entry, Imatrix, read_imatrix, weights
from quantize.names import File, Tensor

logger = logging.getLogger("miloco_edge.quantize")

Floats = NDArray[np.float32]
Types = Sequence[tuple[Tensor, Type]]

_LOOKED_UP = ("token_embd.weight", "output.weight")
"""llama-imatrix leaves them out, and llama-quantize makes any type of them without."""

_LARGEST = 1e20
"""Mean square beyond any activation's. ggml squares in float32: above, some encoders give zeros and
IQ3_XXS aborts the process."""

_OF_THIS_MODEL = "use an imatrix that was collected on this model"


@dataclass(frozen=True)
class Guide:
    """An imatrix and where it came from."""

    path: Path
    sha256: str
    imatrix: Imatrix


def read_guide(path: Path, tensors: Iterable[Tensor]) -> Guide:
    """Read an imatrix and check that it is of the checkpoint that `tensors` make up.

    Raises NotFoundError, or ImatrixError where it is damaged, knows weights that the checkpoint
    does not have, knows one with another number of columns, or with inputs that cannot be.
    """
    read = read_imatrix(path)
    known = {tensor.name: tensor for tensor in tensors}
    strange = read.entries.keys() - known.keys() - set(_LOOKED_UP)
    if strange:
        raise ImatrixError(
            path,
            f"expected importances of this model's weights alone, got {min(strange)} "
            f"({len(strange)} unknown)",
            hint=_OF_THIS_MODEL,
        )
    entries = {
        name: _fitted(path, known[name], entry) if name in known else entry
        for name, entry in read.entries.items()
    }
    dead = [name for name, entry in entries.items() if _has_dead_block(entry)]
    if dead:
        logger.warning(
            "%s: inputs of %d weights were zero throughout, 32 in a row, the first of %s: "
            "what they multiply becomes zero", path, len(dead), dead[0],
        )  # fmt: skip
    return Guide(
        path, hashlib.sha256(path.read_bytes()).hexdigest(), replace(read, entries=entries)
    )


def _fitted(path: Path, tensor: Tensor, entry: Entry) -> Entry:
    """Check the number of columns.

    A pair whose vision tower is padded gives more, with zeros where the padding is.
    """
    columns, sums = tensor.unpadded[-1], entry.sums
    is_padding = tensor.name.startswith("v.") and not sums[columns:].any()
    if len(sums) < columns or (len(sums) > columns and not is_padding):
        raise ImatrixError(
            path, f"expected {columns} importances of {tensor.name}, got {len(sums)}",
            hint=_OF_THIS_MODEL,
        )  # fmt: skip
    peak = float(sums.max()) / max(entry.count, 1)
    if entry.count and not 0 < peak <= _LARGEST:
        raise ImatrixError(
            path,
            f"expected inputs of {tensor.name} with a mean square above 0 and up to {_LARGEST:g}, "
            f"got {peak:g}",
            hint="collect it again; activations of a sound model are not like that",
        )
    return Entry(sums[:columns], entry.count)


def _has_dead_block(entry: Entry) -> bool:
    """Whether ggml would see a whole block of no importance, and encode it as zeros."""
    blocks = entry.sums[: len(entry.sums) // 32 * 32].reshape(-1, 32)
    return entry.count > 0 and not blocks.any(axis=1).all()


def importances(guide: Guide, types: Types) -> Mapping[str, Floats]:
    """Return (columns,) float32 for every weight that the imatrix guides, by name."""
    found = {}
    for tensor, type in types:
        columns = tensor.unpadded[-1]
        values = weights(guide.imatrix, tensor.name, columns)
        if values is not None and type not in IGNORE_IMPORTANCE:
            found[tensor.name] = np.pad(values, (0, tensor.columns - columns))
    return found


def check_guided(recipe: str, file: File, types: Types, guide: Guide | None) -> None:
    """Warn of weights that an imatrix says nothing of.

    Raises RecipeError where one is to be of a type that is garbage without importances.
    """
    silent = [
        (tensor, type)
        for tensor, type in types
        if type not in IGNORE_IMPORTANCE
        and tensor.name not in _LOOKED_UP
        and (guide is None or tensor.name not in guide.imatrix.entries)
    ]
    for tensor, type in silent:
        if type in NEED_IMPORTANCE:
            raise RecipeError(
                recipe,
                f"expected importances of {tensor.name}, which is to be {type.name}, got none",
                hint="give an --imatrix that covers it (`miloco-edge calibrate` makes one)",
            )
    if guide is not None and silent:
        logger.warning(
            "%s says nothing of %d weights of the %s file, the first %s: "
            "they are quantized without it",
            guide.path, len(silent), file, silent[0][0].name,
        )  # fmt: skip
