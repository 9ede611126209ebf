"""The one pass: every source byte read once, every output byte written once, in bounded memory.

The calling thread reads slabs of rows in the order of the source's bytes. A pool converts them
and writes them to where they belong; another thread hashes what was read. A fixed set of
workspaces holds all that is in flight, so memory does not depend on the checkpoint.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from quantize import codec
from quantize.codec import SOURCES, Bytes, Floats, Type
from quantize.container import Placed
from quantize.errors import CheckpointError
from quantize.names import Tensor
from quantize.outputs import GGUFOutput
from quantize.safetensors import Stored

SLAB = 1 << 20
"""Weights in a slab. No row is longer (dimensions.MAX_SIZE), and fixed, so results do not vary."""
MEASURED = 8
"""The first one in so many rows of every slab is decoded again to measure its error."""

Progress = Callable[[int, int], None]
"""Called with the source bytes done and their total."""


@dataclass(frozen=True)
class Destination:
    """An output tensor and the file that it goes into."""

    placed: Placed
    output: GGUFOutput
    importance: Floats | None = field(default=None, compare=False)
    """(columns,) float32: how much each column's error weighs."""


@dataclass(frozen=True)
class Error:
    """Sums over the weights that were measured."""

    squared_error: float = 0.0
    squared_value: float = 0.0
    count: int = 0

    def __add__(self, other: Error) -> Error:
        return Error(
            self.squared_error + other.squared_error,
            self.squared_value + other.squared_value,
            self.count + other.count,
        )


@dataclass(frozen=True)
class Passed:
    """What the pass found out besides the outputs."""

    sha256: dict[Path, str]
    """Of every shard."""
    errors: dict[str, Error]
    """By output tensor; none where the type holds the source exactly."""


def stream(
    shards: Mapping[Path, Sequence[Stored]],
    destinations: Mapping[Stored, Sequence[Destination]],
    *,
    threads: int,
    progress: Progress | None,
) -> Passed:
    """Convert every source tensor into its destinations, with `threads` threads.

    Raises CheckpointError for a weight that is NaN, infinite or too large for its type, or for a
    file that changed since its header was read; OSError where reading or writing fails.
    """
    for type in {d.placed.type for every in destinations.values() for d in every}:
        codec.prepare(type)
    free: SimpleQueue[_Workspace] = SimpleQueue()
    for _ in range(threads + 2):
        free.put(_Workspace.new())
    total = sum(path.stat().st_size for path in shards)
    done = 0
    pending: deque[tuple[Future[dict[str, Error]], int]] = deque()
    passed = Passed({}, {})

    def collect(*, all: bool) -> None:
        nonlocal done
        while pending and (all or pending[0][0].done()):
            future, nbytes = pending.popleft()
            for name, error in future.result().items():
                passed.errors[name] = passed.errors.get(name, Error()) + error
            done += nbytes
            if progress:
                progress(done, total)

    with ThreadPoolExecutor(threads) as pool, ThreadPoolExecutor(1) as hasher:
        for path, shard in shards.items():
            digest = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                start = min((stored.offset for stored in shard), default=0)
                digest.update(file.read(start))
                done += start
                for stored in shard:
                    for slab in _slabs(stored, destinations.get(stored, ())):
                        workspace = free.get()
                        raw = workspace.raw[: slab.nbytes]
                        _read(file.fileno(), raw, stored, slab.offset)
                        hashed = hasher.submit(digest.update, raw.data)
                        work = pool.submit(_convert, slab, workspace, hashed, free)
                        pending.append((work, slab.nbytes))
                        collect(all=False)
                collect(all=True)
            passed.sha256[path] = digest.hexdigest()
    return passed


@dataclass(frozen=True)
class _Workspace:
    """Buffers for one slab on its way."""

    raw: Bytes
    values: Floats
    again: Floats
    encoded: Bytes

    @classmethod
    def new(cls) -> _Workspace:
        return cls(
            np.empty(SLAB * 4, np.uint8), np.empty(SLAB, np.float32), np.empty(SLAB, np.float32),
            np.empty(SLAB * 4, np.uint8),
        )  # fmt: skip


@dataclass(frozen=True)
class _Slab:
    """Some rows of a source tensor that share their destinations."""

    stored: Stored
    first_row: int
    offset: int
    """Bytes from the start of the source file."""
    nbytes: int
    destinations: tuple[Destination, ...]


def _slabs(stored: Stored, destinations: Sequence[Destination]) -> Iterator[_Slab]:
    """Cut a tensor where a destination begins or ends and where a slab is full."""
    if not destinations:  # read for the hash alone
        for start in range(0, stored.nbytes, SLAB * 4):
            nbytes = min(SLAB * 4, stored.nbytes - start)
            yield _Slab(stored, 0, stored.offset + start, nbytes, ())
        return
    rows = stored.shape[0]
    row_bytes = stored.nbytes // rows
    widest = max(d.placed.tensor.count // d.placed.tensor.shape[0] for d in destinations)
    step = SLAB // max(widest, math.prod(stored.shape[1:]))
    spans = {d: (d.placed.tensor.first_row, _last_row(d)) for d in destinations}
    cuts = sorted({row for span in spans.values() for row in span})
    for begin, end in pairwise(cuts):
        inside = tuple(d for d, (first, last) in spans.items() if first <= begin and end <= last)
        for row in range(begin, end, step):
            nbytes = min(step, end - row) * row_bytes
            yield _Slab(stored, row, stored.offset + row * row_bytes, nbytes, inside)


def _last_row(destination: Destination) -> int:
    tensor = destination.placed.tensor
    return tensor.first_row + tensor.unpadded[0]


def _read(file: int, out: Bytes, stored: Stored, offset: int) -> None:
    got = 0
    while got < out.size:
        count = os.preadv(file, [out.data[got:]], offset + got)
        if count == 0:
            raise CheckpointError(
                stored.path,
                f"expected {out.size} bytes at {offset}, got {got}: it changed",
                hint="leave the checkpoint as it is until its conversion has ended",
            )
        got += count


def _convert(
    slab: _Slab,
    workspace: _Workspace,
    hashed: Future[None],
    free: SimpleQueue[_Workspace],
) -> dict[str, Error]:
    """Convert one slab, write it, and give its workspace back."""
    try:
        raw = workspace.raw[: slab.nbytes]
        errors: dict[str, Error] = {}
        if slab.destinations:
            source = SOURCES[slab.stored.dtype]
            if not codec.all_finite(raw, source, workspace.encoded):
                raise CheckpointError(
                    slab.stored.path,
                    f"expected finite weights, got NaN or infinity in {slab.stored.name}",
                )
            for destination in slab.destinations:
                errors |= _write(destination, slab, source, raw, workspace)
        return errors
    finally:
        hashed.result()
        free.put(workspace)


def _write(
    destination: Destination, slab: _Slab, source: Type, raw: Bytes, workspace: _Workspace
) -> dict[str, Error]:
    placed = destination.placed
    tensor, type = placed.tensor, placed.type
    row = tensor.count // tensor.shape[0]
    offset = codec.row_bytes(type, (slab.first_row - tensor.first_row) * row)
    if type is source and tensor.plane is None and not tensor.padding[1]:
        destination.output.write(placed, offset, raw)
        _write_padding(destination, offset + raw.size)
        return {}
    values = _values(tensor, source, raw, workspace)
    encoded = _encode(destination, values, workspace.encoded)
    if not codec.is_sound(encoded, type):
        raise CheckpointError(
            slab.stored.path,
            f"expected weights within the range of {type.name}, got larger ones in {tensor.name}",
            hint="choose bf16, which holds every value of the source"
            + ("" if destination.importance is None else ", or another imatrix"),
        )
    destination.output.write(placed, offset, encoded)
    _write_padding(destination, offset + encoded.size)
    if type is Type.F32:
        return {}
    measured = -(-values.size // row // MEASURED) * row
    error = _error(values[:measured], encoded, type, row, workspace.again)
    return {tensor.name: replace(error, count=error.count // row * (row - tensor.padding[1]))}


def _values(tensor: Tensor, source: Type, raw: Bytes, workspace: _Workspace) -> Floats:
    """Decode the part of the source that belongs to a tensor, padded to the right with zeros."""
    count = raw.size // codec.row_bytes(source, 1)
    columns = tensor.padding[1]
    values = codec.decode(raw, source, (workspace.again if columns else workspace.values)[:count])
    if tensor.plane is not None:
        planes = values.reshape(-1, *tensor.source_shape[1:])
        return np.ascontiguousarray(planes[:, :, tensor.plane]).reshape(-1)
    if columns:
        rows = values.reshape(-1, tensor.source_shape[-1])
        padded = workspace.values[: len(rows) * tensor.columns].reshape(len(rows), -1)
        padded[:, :-columns], padded[:, -columns:] = rows, 0.0
        return padded.reshape(-1)
    return values


def _encode(destination: Destination, values: Floats, out: Bytes) -> Bytes:
    placed = destination.placed
    if codec.block_size(placed.type) == 1:
        return codec.encode(values, placed.type, values.size, out)
    columns = placed.tensor.columns
    return codec.encode(values, placed.type, columns, out, destination.importance)


def _write_padding(destination: Destination, offset: int) -> None:
    """Write a tensor's zero rows, once what comes before them has been."""
    placed = destination.placed
    tensor = placed.tensor
    rows, row = tensor.padding[0], tensor.count // tensor.shape[0]
    if rows and offset == placed.nbytes - rows * codec.row_bytes(placed.type, row):
        zeros = np.zeros(row, np.float32)
        encoded = _encode(destination, zeros, np.empty(zeros.nbytes, np.uint8))
        destination.output.write(placed, offset, np.tile(encoded, rows))


def _error(values: Floats, encoded: Bytes, type: Type, row: int, out: Floats) -> Error:
    """Compare `values` (n,) float32 with what the first n of `encoded` decode to."""
    raw = encoded[: codec.row_bytes(type, values.size)]
    difference = codec.decode(raw, type, out[: values.size])
    np.subtract(difference, values, out=difference)
    return Error(_sum_of_squares(difference, row), _sum_of_squares(values, row), values.size)


def _sum_of_squares(values: Floats, row: int) -> float:
    """Sum in float32 along rows, which is fast, and in float64 over them."""
    rows = values.reshape(-1, row)
    return float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
