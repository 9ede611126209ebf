"""A GGUF file's bytes before its weights, and where each tensor's weights will stand.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gguf import GGUFValueType

from quantize.codec import Type, row_bytes
from quantize.errors import CheckpointError
from quantize.metadata import Fields
from quantize.names import Tensor

ALIGNMENT = 32
_VERSION = 3


@dataclass(frozen=True)
class Placed:
    """A tensor, the type that was chosen for it, and its place in the file."""

    tensor: Tensor
    type: Type
    offset: int
    """Bytes from the start of the file."""
    nbytes: int
    """Without the padding after it."""


@dataclass(frozen=True)
class Layout:
    """A GGUF file of which all but the weights is known."""

    head: bytes
    """Header, keys and tensor descriptions, padded to the first tensor."""
    tensors: tuple[Placed, ...]
    size: int


def lay_out(fields: Fields, tensors: Sequence[tuple[Tensor, Type]]) -> Layout:
    """Return the layout of a file with the given keys and tensors, in the given order."""
    parts = [b"GGUF", struct.pack("<IQQ", _VERSION, len(tensors), len(fields.values))]
    for key, value in fields.values.items():
        parts += _string(key), struct.pack("<I", value.type)
        try:
            parts.append(_value(value.type, value.value, value.sub_type))
        except _NO_VALUE as error:
            raise CheckpointError(
                fields.source, f"expected {value.type.name} as {key}, got {value.value!r:.60}"
            ) from error
    relative: list[tuple[Tensor, Type, int, int]] = []
    end = 0
    for tensor, type in tensors:
        nbytes = tensor.count // tensor.columns * row_bytes(type, tensor.columns)
        relative.append((tensor, type, end, nbytes))
        sizes = tensor.shape[::-1]  # innermost first
        parts += _string(tensor.name), struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        parts.append(struct.pack("<IQ", type, end))
        end = padded(end + nbytes)
    head = b"".join(parts)
    head += bytes(padded(len(head)) - len(head))
    placed = (Placed(tensor, type, len(head) + at, size) for tensor, type, at, size in relative)
    return Layout(head, tuple(placed), len(head) + end)


def padded(size: int) -> int:
    """Bytes that `size` bytes take with the padding after them."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


# What becomes of a setting that is no number, no text, or out of its type's range.
_NO_VALUE = (struct.error, AttributeError, TypeError, ValueError, IndexError, OverflowError)

_FORMATS = {
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
}


def _value(type: Any, value: Any, inner: Any) -> bytes:
    if type == GGUFValueType.STRING:
        return _string(value)
    if type == GGUFValueType.ARRAY:
        inner = inner or GGUFValueType.get_type(value[0])
        head = struct.pack("<IQ", inner, len(value))
        return head + b"".join(_value(inner, item, None) for item in value)
    return struct.pack(_FORMATS[type], value)
