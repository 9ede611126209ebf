"""Typed access to GGUF metadata: a key is of the type that llama.cpp reads, or it is an error.

clip.cpp asserts, and so aborts the process, on a scalar of another type (llama.cpp#27202); the
checks of a pair read every key through here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miloco_edge.errors import GGUFError
from miloco_edge.registry.gguf_header import GGUFHeader

_REQUIRED: Any = object()
HINT = "the file is damaged or was made by another tool; download or convert it again"


def bad(header: GGUFHeader, message: str, hint: str = HINT) -> GGUFError:
    """The error for a file whose metadata or tensors are not sound."""
    return GGUFError(header.path, message, hint=hint)


def field(header: GGUFHeader, key: str, kind: str, default: Any = _REQUIRED) -> Any:
    """The value of `key`, which must be of GGUF type `kind`; `default` where it is absent."""
    if key not in header.types:
        if default is _REQUIRED:
            raise bad(header, f"expected the key {key}, got none")
        return default
    if header.types[key] != kind:
        raise bad(header, f"{key}: expected {kind}, got {header.types[key]}")
    return header.metadata[key]


def count(
    header: GGUFHeader, key: str, low: int = 1, high: int = 1 << 24, default: Any = _REQUIRED
) -> int:
    """A u32 within [low, high]."""
    value = int(field(header, key, "u32", default))
    if not low <= value <= high:
        raise bad(header, f"{key}: expected {low} to {high}, got {value}")
    return value


def real(header: GGUFHeader, key: str, low: float, high: float, default: Any = _REQUIRED) -> float:
    """A finite f32 within (low, high)."""
    value = float(field(header, key, "f32", default))
    if not (math.isfinite(value) and low < value < high):
        raise bad(header, f"{key}: expected a number between {low:g} and {high:g}, got {value}")
    return value


def floats(header: GGUFHeader, key: str, length: int) -> NDArray[np.float32]:
    """An array of f32: (length,) float32, finite."""
    values: NDArray[np.float32] = field(header, key, "[f32]")
    if len(values) != length or not np.isfinite(values).all():
        raise bad(header, f"{key}: expected {length} finite numbers, got {values[:8].tolist()}")
    return values
