"""Reads the header of a GGUF file as if an enemy had written it.

llama.cpp aborts the process, and gguf-py can hang, on some malformed files; so no file reaches
them before it has passed here. Every length is checked against a limit and against the bytes that
are really there before anything is read, let alone allocated. Weights are never read.

Format: github.com/ggml-org/ggml, docs/gguf.md. Where llama.cpp's own reader (ggml/src/gguf.cpp)
is stricter than the document, its rule is kept: tensors lie one after the other, in order, each
padded to the alignment.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np

from miloco_edge.errors import GGUFError
from miloco_edge.registry.ggml_types import FILE_TYPES, TENSOR_TYPES

MAX_HEADER_BYTES = 64 << 20
MAX_STRINGS = 1 << 20
MAX_STRING_BYTES = 4 << 20
MAX_KEY_BYTES = 65535
MAX_NAME_BYTES = 63  # GGML_MAX_NAME - 1
MAX_KEYS = 4096
MAX_TENSORS = 65536
MAX_DIMS = 4
ALIGNMENT = 32

_SCALARS: dict[int, tuple[str, str]] = {  # GGUF type -> our name, little-endian struct/numpy code
    0: ("u8", "<u1"), 1: ("i8", "<i1"), 2: ("u16", "<u2"), 3: ("i16", "<i2"), 4: ("u32", "<u4"),
    5: ("i32", "<i4"), 6: ("f32", "<f4"), 7: ("bool", "<u1"), 10: ("u64", "<u8"),
    11: ("i64", "<i8"), 12: ("f64", "<f8"),
}  # fmt: skip
_STRING, _ARRAY = 8, 9


class Strings(Sequence[str]):
    """An array of strings kept as bytes; each is decoded when it is asked for."""

    def __init__(self, raw: list[bytes]) -> None:
        self.raw = raw

    def __len__(self) -> int:
        return len(self.raw)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [item.decode("utf-8", "replace") for item in self.raw[index]]
        return self.raw[index].decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"<{len(self.raw)} strings>"


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it is."""

    name: str
    shape: tuple[int, ...]
    """ggml's order: the contiguous dimension (row length) first."""
    type: str
    """ggml's name in capitals: F32, BF16, Q4_K."""
    offset: int
    """Bytes from the start of the data section."""
    nbytes: int

    @property
    def parameters(self) -> int:
        """Number of weights in it."""
        return prod(self.shape)


@dataclass(frozen=True)
class GGUFHeader:
    """Everything in a GGUF file but its weights."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    """Key -> int, float, bool, str, numpy array, or Strings."""
    types: Mapping[str, str]
    """Key -> its GGUF type: u32, f32, bool, str, and for arrays [u32], [str]."""
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_size: int

    @property
    def architecture(self) -> str | None:
        """`general.architecture`, where it is a string."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else None

    @property
    def parameters(self) -> int:
        """Number of weights in the file."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of data for each weight, mean over the file."""
        bits = 8 * sum(tensor.nbytes for tensor in self.tensors)
        return bits / self.parameters if self.tensors else 0.0

    @property
    def file_type(self) -> str:
        """The quantization as it is written in file names; the commonest type where no key says."""
        number = self.metadata.get("general.file_type")
        if isinstance(number, int) and number in FILE_TYPES:
            return FILE_TYPES[number]
        if not self.tensors:
            return "unknown"
        matrices = [t for t in self.tensors if len(t.shape) > 1] or list(self.tensors)
        return Counter(tensor.type for tensor in matrices).most_common(1)[0][0]


class _Cursor:
    """Reads forward through the head of a file, never past its end or the header's limit."""

    def __init__(self, path: Path, file: FileIO, size: int) -> None:
        self.path, self._file, self.size = path, file, size
        self._data = b""
        self.position = 0
        self.strings_left = MAX_STRINGS

    def fail(self, message: str, hint: str | None = None) -> GGUFError:
        """The error to raise: `message` with the place in the file."""
        where = f"at byte {self.position}: {message}"
        return GGUFError(self.path, where, hint=hint or "download or convert the file again")

    def _fill(self, end: int) -> None:
        """Make `self._data` reach `end`, or raise."""
        if end > self.size:
            raise self.fail(f"expected {end - self.position} more bytes, got the end of the file")
        if end > MAX_HEADER_BYTES:
            raise self.fail(f"expected a header of at most {MAX_HEADER_BYTES} bytes, got more")
        while len(self._data) < end:
            chunk = self._file.read(max(len(self._data), 1 << 20))
            if not chunk:
                raise self.fail("expected more bytes, got the end of the file")
            self._data += chunk

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.position + count
        if end > len(self._data):
            self._fill(end)
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def u32(self) -> int:
        """The next 4 bytes as a number."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """The next 8 bytes as a number."""
        return int.from_bytes(self.take(8), "little")

    def text(self, what: str, limit: int) -> str:
        """The next string, in UTF-8, of at most `limit` bytes."""
        length = self.u64()
        if length > limit:
            raise self.fail(f"expected {what} of at most {limit} bytes, got {length}")
        raw = self.take(length)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"expected {what} in UTF-8, got {raw[:32]!r}") from None

    def strings(self, count: int) -> Strings:
        """The next `count` strings, as bytes."""
        if count > self.strings_left:
            raise self.fail(f"expected at most {MAX_STRINGS} strings in arrays, got {count} more")
        self.strings_left -= count
        length_of = struct.Struct("<Q").unpack_from
        raw: list[bytes] = []
        data, start = self._data, self.position
        for _ in range(count):
            if start + 8 > len(data):
                self.position = start
                self._fill(start + 8)
                data = self._data
            end = start + 8 + length_of(data, start)[0]
            if end > len(data):
                self.position = start
                self._fill(end)
                data = self._data
            raw.append(data[start + 8 : end])
            start = end
        self.position = start
        return Strings(raw)

    def scalar(self, kind: int) -> int | float | bool:
        """The next number of GGUF type `kind`."""
        name, code = _SCALARS[kind]
        value = np.frombuffer(self.take(np.dtype(code).itemsize), code)[0].item()
        if name != "bool":
            return value  # type: ignore[no-any-return]
        if value > 1:
            raise self.fail(f"expected a bool of 0 or 1, got {value}")
        return bool(value)

    def array(self) -> tuple[str, Any]:
        """The next array: its type in brackets and its values."""
        kind, count = self.u32(), self.u64()
        if kind == _STRING:
            return "[str]", self.strings(count)
        if kind not in _SCALARS:
            raise self.fail(f"expected an array of numbers or strings, got element type {kind}")
        name, code = _SCALARS[kind]
        return f"[{name}]", np.frombuffer(self.take(count * np.dtype(code).itemsize), code)

    def value(self) -> tuple[str, Any]:
        """The next typed value: the name of its type and the value."""
        kind = self.u32()
        if kind == _STRING:
            return "str", self.text("a string", MAX_STRING_BYTES)
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise self.fail(f"expected a value type of 0 to 12, got {kind}")
        return _SCALARS[kind][0], self.scalar(kind)


def read_header(path: Path | str) -> GGUFHeader:
    """Read and check the header of the GGUF file at `path`, and that its data is all there.

    Raises GGUFError where the file is not a sound GGUF (version 2 or 3, little-endian), OSError
    where it cannot be read. A vocabulary of 150 000 tokens takes about a tenth of a second.
    """
    path = Path(path)
    with path.open("rb", buffering=0) as file:
        cursor = _Cursor(path, file, os.fstat(file.fileno()).st_size)
        version, tensor_count, key_count = _read_start(cursor)
        types, metadata = _read_metadata(cursor, key_count)
        alignment = _alignment(cursor, types, metadata)
        tensors = _read_tensors(cursor, tensor_count, alignment)
        data_offset = _padded(cursor.position, alignment) if tensors else cursor.position
        if tensors and data_offset + tensors[-1].offset + tensors[-1].nbytes > cursor.size:
            expected = data_offset + tensors[-1].offset + tensors[-1].nbytes
            raise GGUFError(
                path, f"cut short: expected at least {expected} bytes, got {cursor.size}",
                hint="the copy or download was not finished; fetch the file again",
            )  # fmt: skip
        return GGUFHeader(
            path, version, MappingProxyType(metadata), MappingProxyType(types),
            tensors, data_offset, cursor.size,
        )  # fmt: skip


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _read_start(cursor: _Cursor) -> tuple[int, int, int]:
    magic = cursor.take(4) if cursor.size >= 4 else b""
    if magic != b"GGUF":
        raise GGUFError(
            cursor.path, f"expected a GGUF file, got one that begins with {magic!r}",
            hint="give the .gguf file itself; a page saved by a browser or a Git LFS pointer "
            "is not one",
        )  # fmt: skip
    version = cursor.u32()
    if version & 0xFFFF == 0 and version:
        raise cursor.fail(
            "expected a little-endian file, got a big-endian one",
            "convert it with gguf-py's gguf_convert_endian",
        )
    if version not in (2, 3):
        raise cursor.fail(
            f"expected GGUF version 2 or 3, got {version}",
            "convert the model again with a newer tool",
        )
    tensor_count, key_count = cursor.u64(), cursor.u64()
    for count, limit, what in (
        (tensor_count, MAX_TENSORS, "tensors"),
        (key_count, MAX_KEYS, "metadata keys"),
    ):
        if count > limit:
            raise cursor.fail(f"expected at most {limit} {what}, got {count}")
    return version, tensor_count, key_count


def _read_metadata(cursor: _Cursor, count: int) -> tuple[dict[str, str], dict[str, Any]]:
    types: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.text("a key", MAX_KEY_BYTES)
        if not key:
            raise cursor.fail("expected a key, got an empty one")
        if key in types:
            raise cursor.fail(f"expected each key once, got {key!r} twice")
        types[key], metadata[key] = cursor.value()
    return types, metadata


def _alignment(cursor: _Cursor, types: dict[str, str], metadata: dict[str, Any]) -> int:
    if "general.alignment" not in types:
        return ALIGNMENT
    kind, value = types["general.alignment"], metadata["general.alignment"]
    # Below 32 ggml's CPU buffers assert on the mapped tensors.
    if kind != "u32" or value not in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        raise cursor.fail(
            f"general.alignment: expected a power of two from 32 to 4096 as u32, got {kind} {value}"
        )
    return int(value)


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    tensors: list[TensorInfo] = []
    names: set[str] = set()
    expected_offset = 0
    for _ in range(count):
        tensor = _read_tensor(cursor)
        if tensor.name in names:
            raise cursor.fail(f"expected each tensor once, got {tensor.name!r} twice")
        if tensor.offset != expected_offset:
            raise cursor.fail(
                f"tensor {tensor.name!r}: expected offset {expected_offset}, got {tensor.offset}"
            )
        names.add(tensor.name)
        tensors.append(tensor)
        expected_offset += _padded(tensor.nbytes, alignment)
    return tuple(tensors)


def _read_tensor(cursor: _Cursor) -> TensorInfo:
    name = cursor.text("a tensor name", MAX_NAME_BYTES)
    dims = cursor.u32()
    if not 1 <= dims <= MAX_DIMS:
        raise cursor.fail(f"tensor {name!r}: expected 1 to {MAX_DIMS} dimensions, got {dims}")
    shape = tuple(cursor.u64() for _ in range(dims))
    if not all(0 < size < 1 << 48 for size in shape):
        raise cursor.fail(f"tensor {name!r}: expected positive dimensions, got {shape}")
    number = cursor.u32()
    if number not in TENSOR_TYPES:
        raise cursor.fail(
            f"tensor {name!r}: expected a type that llama.cpp knows, got number {number}",
            "the file may need a newer release, or is damaged; download it again",
        )
    kind = TENSOR_TYPES[number]
    if shape[0] % kind.block:
        raise cursor.fail(
            f"tensor {name!r}: expected rows of a multiple of {kind.block} for {kind.name}, "
            f"got {shape[0]}"
        )
    nbytes = prod(shape) // kind.block * kind.nbytes
    if nbytes > cursor.size:
        raise cursor.fail(
            f"tensor {name!r}: expected at most the file's {cursor.size} bytes, got {nbytes}",
            "the file is damaged or cut short; fetch it again",
        )
    return TensorInfo(name, shape, kind.name, cursor.u64(), nbytes)
