"""How much more than others some weights matter, as somebody has measured it: a JSON file.

    {"output": 4.0, "attn_v": 1.5, "blk.0.*": 2.0, "v.*": 0.7}

A key is a role ("ffn_down", in both files) or a weight's name as the GGUF has it, * and ? as in a
shell. The expected loss of a weight is multiplied by the factors of all keys that it matches.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from quantize.errors import NotFoundError, RecipeError
from quantize.names import Tensor
from quantize.recipes.recipe import role


@dataclass(frozen=True)
class Sensitivity:
    """Factors by the name of the weight, and where they came from."""

    path: Path
    sha256: str
    factors: Mapping[str, float]
    """Of every weight that the file speaks of."""


def read_sensitivity(path: Path, weights: Iterable[Tensor]) -> Sensitivity:
    """Read factors for the given weights.

    Raises NotFoundError, or RecipeError where it is not an object of positive numbers, names a key
    twice, or has one that no weight matches.
    """
    try:
        data = path.read_bytes()
        document = json.loads(data, object_pairs_hook=_unique)
    except FileNotFoundError as error:
        raise NotFoundError(path, "expected sensitivities here, found nothing") from error
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"expected a JSON object, got {error}") from error
    if not isinstance(document, dict) or not document:
        raise _refused(path, f"expected an object of names and factors, got {document!r:.60}")
    weights = tuple(weights)
    factors: dict[str, float] = {}
    for key, factor in document.items():
        if type(factor) not in (int, float) or not (math.isfinite(factor) and factor > 0):
            raise _refused(path, f"expected a number above 0 for {key!r}, got {factor!r:.40}")
        matched = [w.name for w in weights if role(w) == key or fnmatchcase(w.name, key)]
        if not matched:
            raise _refused(path, f"expected {key!r} to match weights of this model, got none")
        for name in matched:
            factors[name] = factors.get(name, 1.0) * factor
    return Sensitivity(path, hashlib.sha256(data).hexdigest(), factors)


def _refused(path: Path, message: str) -> RecipeError:
    return RecipeError(
        str(path), message,
        hint='a factor by role or name: {"output": 4.0, "blk.*.ffn_down.weight": 1.5}',
    )  # fmt: skip


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a name that occurs twice")
    return mapping
