"""A quantization manifest, read with care: whoever opens the page may have brought it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miloco_edge.errors import ManifestError

MOST_BYTES = 8 << 20
_LAYER = re.compile(r"(v\.)?blk\.(\d{1,4})\.([\w.]{1,40})\.weight")


@dataclass(frozen=True)
class Weight:
    """One tensor of a pair."""

    name: str
    type: str
    bytes: int
    nmse: float | None
    """Squared error over squared weights; None where nothing was written."""
    matrix: bool
    """It has rows and columns, so a recipe chose its type."""

    @property
    def place(self) -> tuple[str, int, str] | None:
        """Tower ("text" or "vision"), layer and kind; None for a weight outside the layers."""
        found = _LAYER.fullmatch(self.name)
        if found is None:
            return None
        return "vision" if found[1] else "text", int(found[2]), found[3]


@dataclass(frozen=True)
class Quantized:
    """What a manifest says of a pair of files."""

    recipe: str
    files: tuple[tuple[str, int, float], ...]
    """Name, bytes and bits per weight."""
    weights: tuple[Weight, ...]


def read_manifest(path: Path) -> Quantized:
    """Read a manifest that a visitor brought. Raises ManifestError for anything else."""
    if path.stat().st_size > MOST_BYTES:
        raise _refused(path.name, f"more than {MOST_BYTES} bytes")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refused(path.name, f"no JSON: {error}") from error
    return quantized(document, path.name)


def quantized(document: Any, name: str) -> Quantized:
    """What the page draws of a manifest. Raises ManifestError where something of it is missing."""
    try:
        return Quantized(
            str(document["recipe"]),
            tuple(
                (str(file["file"]), int(file["bytes"]), float(file["bpw"]))
                for file in document["outputs"]
            ),
            tuple(_weight(tensor) for tensor in document["tensors"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _refused(name, f"{type(error).__name__}: {error}") from error


def _refused(name: str, what: str) -> ManifestError:
    return ManifestError(
        Path(name),
        None,
        f"expected a manifest of quantize, got {what}",
        hint="quantize writes it beside the pair, as NAME-RECIPE.manifest.json",
    )


def _weight(tensor: dict[str, Any]) -> Weight:
    nmse = tensor["nmse"]
    if nmse is not None and not (math.isfinite(nmse) and nmse >= 0):
        raise ValueError(f"nmse {nmse}")
    return Weight(
        str(tensor["name"]),
        str(tensor["type"]),
        int(tensor["bytes"]),
        None if nmse is None else float(nmse),
        len(tensor["shape"]) > 1,
    )
