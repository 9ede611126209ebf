"""Safetensors headers, read and checked before a byte of them is believed.

The format (https://huggingface.co/docs/safetensors): a little-endian u64 with the length of a JSON
object, the object, then the tensors' bytes without holes.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantize.errors import CheckpointError, NotFoundError

MAX_HEADER = 16 << 20
"""Bytes; a 7B checkpoint's header has a tenth of a MiB."""
MAX_DIMENSION = 1 << 31

ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """Where a tensor of a checkpoint lies."""

    name: str
    path: Path
    dtype: str
    """As safetensors names it: BF16, F16, F32, ..."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""
    nbytes: int


def read_header(path: Path) -> list[Stored]:
    """Return the tensors of a safetensors file, in the order of their bytes.

    Raises NotFoundError, or CheckpointError where the header does not describe the file exactly:
    too long, no JSON, a repeated name, an unknown type, a size that does not follow from the
    shape, bytes that overlap, leave a hole, or lie past the end (a truncated file).
    """
    if not path.is_file():
        raise NotFoundError(path, "expected a shard here, found nothing", hint="download it again")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise CheckpointError(
                path,
                f"expected a header of 2 to {min(MAX_HEADER, max(size - 8, 0))} bytes, "
                f"got {length}",
            )
        text = file.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_unique)
        assert_is_object(entries)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"expected a JSON header, got {error}") from error
    start = 8 + length
    tensors = [
        _stored(path, name, entry, start)
        for name, entry in entries.items()
        if name != "__metadata__"
    ]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    end = start
    for tensor in tensors:
        if tensor.offset != end:
            raise CheckpointError(
                path,
                f"expected {tensor.name} at byte {end}, got {tensor.offset}: "
                + ("it overlaps another tensor" if tensor.offset < end else "a hole before it"),
            )
        end += tensor.nbytes
    if end != size:
        raise CheckpointError(path, f"expected {end} bytes, got {size}")
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a name that occurs twice")
    return mapping


def assert_is_object(value: object) -> None:
    """Raise ValueError where a JSON document is not an object."""
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object was expected")


def _stored(path: Path, name: str, entry: Any, start: int) -> Stored:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(first), int(last)]}:
            pass
        case _:
            raise CheckpointError(
                path, f"expected dtype, shape and data_offsets of {name}, got {entry!r:.80}"
            )
    if dtype not in ITEM_SIZES:
        raise CheckpointError(path, f"expected a known type of {name}, got {dtype!r:.40}")
    if len(shape) > 8 or not all(type(n) is int and 0 < n < MAX_DIMENSION for n in shape):
        raise CheckpointError(path, f"expected up to 8 sizes above 0 of {name}, got {shape!r:.80}")
    nbytes = math.prod(shape) * ITEM_SIZES[dtype]
    if first < 0 or last - first != nbytes:
        raise CheckpointError(
            path, f"expected {nbytes} bytes of {name} ({dtype} {shape}), got {first} to {last}"
        )
    return Stored(name, path, dtype, tuple(shape), start + first, nbytes)
