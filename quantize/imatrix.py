"""llama.cpp's importance matrix: how much each input column of each weight matters.

A file holds two tensors for each weight W: W.in_sum2, the squared activations of every input
column summed over all rows, and W.counts, the number of rows. Their quotient weighs the error of
that column. GGUF since 2025 (llama.cpp, tools/imatrix/imatrix.cpp, save_imatrix) and a format of
its own before (save_imatrix_legacy); llama-quantize reads both (common/imatrix-loader.cpp).
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from quantize.errors import ImatrixError, NotFoundError

Floats = NDArray[np.float32]

_DATASETS, _CHUNK_COUNT, _CHUNK_SIZE = (
    f"imatrix.{key}" for key in ("datasets", "chunk_count", "chunk_size")
)
_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class Entry:
    """What is known of one weight's inputs."""

    sums: Floats
    """(columns,) float32: squares of the activations, summed over rows."""
    count: int
    """Rows. 0 where the weight was never used."""


@dataclass(frozen=True)
class Imatrix:
    """Importances by the name of the weight ("blk.0.ffn_down.weight")."""

    entries: Mapping[str, Entry]
    datasets: tuple[str, ...]
    """What it was collected on; llama-quantize writes the first into the model's metadata."""
    chunk_count: int
    """Texts, or clips."""
    chunk_size: int
    """Tokens of one, about."""


def weights(imatrix: Imatrix, name: str, columns: int) -> Floats | None:
    """Importances (columns,) float32 of a weight as llama-quantize computes them.

    All ones where the weight was never used, None where the imatrix does not know it. Raises
    ImatrixError where it knows it with another number of columns.
    """
    entry = imatrix.entries.get(name)
    if entry is None:
        return None
    if len(entry.sums) != columns:
        raise ImatrixError(
            Path(", ".join(imatrix.datasets)),
            f"expected {columns} importances of {name}, got {len(entry.sums)}",
            hint="use an imatrix of the same model",
        )
    if entry.count == 0:
        return np.ones(columns, np.float32)
    return entry.sums / np.float32(entry.count)


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write the GGUF format, whole or not at all: the tensors by name, each sum and its count."""
    if not imatrix.datasets:
        raise ValueError("Imatrix.datasets: expected one at least, llama-quantize reads the first")

    def write(partial: Path) -> None:
        writer = _Writer(partial, "")
        writer.add_type("imatrix")
        writer.add_array(_DATASETS, list(imatrix.datasets))
        writer.add_uint32(_CHUNK_COUNT, imatrix.chunk_count)
        writer.add_uint32(_CHUNK_SIZE, imatrix.chunk_size)
        for name, entry in sorted(imatrix.entries.items()):
            writer.add_tensor(name + _SUMS, np.ascontiguousarray(entry.sums, np.float32))
            writer.add_tensor(name + _COUNTS, np.array([entry.count], np.float32))
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()

    write_whole(path, write)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary file beside `path`, and give it its name once on the disk."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_imatrix(path: Path) -> Imatrix:
    """Read a GGUF or legacy imatrix.

    Raises NotFoundError, or ImatrixError where it is not an imatrix, is cut short, or holds
    numbers that are negative, NaN or infinite.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError as error:
        raise NotFoundError(
            path, "expected an imatrix, found nothing", hint=ImatrixError.hint_again
        ) from error
    imatrix = _read_gguf(path) if magic == b"GGUF" else _read_legacy(path)
    if not imatrix.entries:
        raise ImatrixError(path, "expected sums of activations, got none")
    for name, entry in imatrix.entries.items():
        check_sums(path, name, entry.sums)
    if not any(entry.count for entry in imatrix.entries.values()):
        raise ImatrixError(path, "expected rows to have been counted, got 0 for every tensor")
    return imatrix


def check_sums(path: Path, name: str, sums: NDArray[np.floating]) -> None:
    """Raise ImatrixError unless sums of squares are finite and not negative."""
    bad = ~(np.isfinite(sums) & (sums >= 0))
    if bad.any():
        column = int(bad.argmax())
        raise ImatrixError(
            path, f"expected {name} finite and not negative, got {sums[column]} in column {column}"
        )


class _Writer(gguf.GGUFWriter):  # type: ignore[misc]
    """A GGUF that is not a model: the reference file has no general.architecture."""

    def add_architecture(self) -> None:
        """Leave it out."""


def _read_gguf(path: Path) -> Imatrix:
    try:
        reader = gguf.GGUFReader(path)
        fields = {key: field.contents() for key, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
        raise ImatrixError(path, f"expected a whole GGUF, got {error}") from error
    if (kind := fields.get("general.type")) != "imatrix":
        raise ImatrixError(path, f"expected general.type imatrix, got {kind or 'none'}")
    for key, type in ((_DATASETS, list), (_CHUNK_COUNT, int), (_CHUNK_SIZE, int)):
        if not isinstance(fields.get(key), type):
            raise ImatrixError(path, f"expected {key}, got {fields.get(key)!r}")
    entries = {}
    for name in (name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)):
        sums, counts = tensors[name + _SUMS], tensors.get(name + _COUNTS)
        if counts is None:
            raise ImatrixError(path, f"expected {name}{_COUNTS}, got none")
        if not (sums.data.dtype == counts.data.dtype == np.float32) or counts.data.size != 1:
            raise ImatrixError(
                path,
                f"expected {name} in float32 with one count, got {sums.data.dtype} and "
                f"{counts.data.size}",
                hint="an imatrix of a mixture of experts does not fit this architecture",
            )
        check_sums(path, name + _COUNTS, counts.data.reshape(-1))
        entries[name] = Entry(sums.data.reshape(-1).copy(), round(float(counts.data.item())))
    return Imatrix(
        entries, tuple(map(str, fields[_DATASETS])), fields[_CHUNK_COUNT], fields[_CHUNK_SIZE]
    )


def _read_legacy(path: Path) -> Imatrix:
    """Entries of (name, calls, sums / rows * calls), then calls and the data set's name.

    The number of calls stands in for the rows, so that the quotient is the same.
    """
    stream = BytesIO(path.read_bytes())

    def number() -> int:
        value: int = struct.unpack("<i", stream.read(4))[0]
        return value

    def text() -> str:
        return stream.read(max(number(), 0)).decode("utf-8")

    entries: dict[str, Entry] = {}
    datasets: tuple[str, ...] = ()
    calls = 0
    try:
        for _ in range(number()):
            name, count, size = text(), number(), number()
            sums = np.frombuffer(stream.read(4 * max(size, 0)), "<f4").astype(np.float32)
            if not name or len(sums) != size or count < 0:
                raise ImatrixError(path, f"expected {size} sums of {name!r}, got {len(sums)}")
            entries[name] = Entry(sums, max(count, 1))
        if stream.tell() < len(stream.getbuffer()):
            calls, datasets = number(), (text(),)
    except (struct.error, ValueError) as error:
        raise ImatrixError(path, f"expected an imatrix, got {error}") from error
    return Imatrix(entries, datasets, calls, 0)
