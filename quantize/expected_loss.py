"""What quantizing each weight to each type is expected to cost, from a few of its rows.

The loss of a weight is the noise that it adds, as a share. With E[x_j^2] the importance of input
column j, the expected squared error of its layer's output W x is sum (W - Q)_ij^2 E[x_j^2]; it is
taken relative to the same sum over W_ij^2. Such a ratio has no unit, so both files, and layers of
any size, are on one scale. A block's attention and its FFN add their outputs to a stream of twice
as many as there are layers. All are taken to add alike, so that relative noise of one reaches the
stream divided by that number; that of the embedding, the output and the merger, which everything
passes through, counts whole. Independent noise adds up in power, and KL divergence grows with the
power of small noise, so the sum of losses is about proportional to it. Where weights matter
otherwise than that, measured factors say so (quantize.sensitivity).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from quantize import codec
from quantize.checkpoint import Checkpoint
from quantize.codec import IGNORE_IMPORTANCE, SOURCES, Floats, Type
from quantize.errors import CheckpointError
from quantize.names import Tensor
from quantize.safetensors import Stored
from quantize.stream import Progress

SAMPLED = 1 << 16
"""Weights of a tensor that are tried, in whole rows: its relative error is then known to a few
percent, and all types of a 7B model's weights take a minute of one core."""
LEAST_ROWS = 4


@dataclass(frozen=True)
class Trial:
    """A weight and the types that it might become."""

    tensor: Tensor
    types: Sequence[Type]
    importance: Floats | None
    """(columns,) float32: E[x_j^2]; None: all inputs alike."""
    share: float = 1.0
    """Of the stream that the weight's layer adds to."""


def expected_losses(
    source: Checkpoint, trials: Sequence[Trial], *, threads: int, progress: Progress | None
) -> list[Mapping[Type, float]]:
    """Return, for each trial, the loss of each of its types that can hold the weights.

    Raises CheckpointError for weights that are NaN, infinite or too large for all of them, OSError
    where reading fails.
    """
    for type in {type for trial in trials for type in trial.types}:
        codec.prepare(type)
    files = {path: os.open(path, os.O_RDONLY) for path in source.shards}
    try:
        with ThreadPoolExecutor(threads) as pool:
            sampled = {
                pool.submit(_try, source, files, t): _sampled_bytes(source, t) for t in trials
            }
            done, total = 0, sum(sampled.values())
            try:
                for future in as_completed(sampled):
                    future.result()
                    done += sampled[future]
                    if progress:
                        progress(done, total)
            finally:
                pool.shutdown(cancel_futures=True)
        losses = [future.result() for future in sampled]
    finally:
        for file in files.values():
            os.close(file)
    for trial, found in zip(trials, losses, strict=True):
        if not found:
            stored = source.tensors[trial.tensor.source]
            raise CheckpointError(
                stored.path, f"expected {stored.name} within the range of one type at least"
            )
    return losses


def _try(source: Checkpoint, files: Mapping[Path, int], trial: Trial) -> Mapping[Type, float]:
    values = _sample(source.tensors[trial.tensor.source], files, trial.tensor)
    columns = trial.tensor.columns
    encoded = np.empty(values.nbytes, np.uint8)
    again = np.empty(values.size, np.float32)
    energy = _energy(values, trial.importance)
    importance = trial.importance if energy else None
    energy = energy or _energy(values, None)
    losses = {}
    for type in trial.types:
        used = None if type in IGNORE_IMPORTANCE else importance
        codec.encode(values.reshape(-1), type, columns, encoded, used)
        raw = encoded[: codec.row_bytes(type, values.size)]
        if not codec.is_sound(raw, type):
            continue  # a scale out of range
        difference = codec.decode(raw, type, again).reshape(values.shape) - values
        noise = _energy(difference, importance) / energy if energy else 0.0
        losses[type] = trial.share * noise
    return losses


def _sampled_bytes(source: Checkpoint, trial: Trial) -> int:
    columns = trial.tensor.unpadded[1]
    dtype = SOURCES[source.tensors[trial.tensor.source].dtype]
    return _sampled_rows(trial.tensor) * codec.row_bytes(dtype, columns)


def _sampled_rows(tensor: Tensor) -> int:
    rows, columns = tensor.unpadded
    return min(rows, max(LEAST_ROWS, SAMPLED // columns))


def _sample(stored: Stored, files: Mapping[Path, int], tensor: Tensor) -> Floats:
    """Some rows (n, columns) float32, one at random from each of n equal parts of the tensor."""
    rows, columns = tensor.unpadded
    n = _sampled_rows(tensor)
    random = np.random.default_rng(crc32(tensor.name.encode()))
    starts = (np.arange(n) + random.random(n)) * rows / n
    dtype = SOURCES[stored.dtype]
    size = codec.row_bytes(dtype, columns)
    raw = np.empty((n, size), np.uint8)
    for row, start in zip(raw, np.minimum(starts.astype(np.int64), rows - 1), strict=True):
        offset = stored.offset + (tensor.first_row + int(start)) * size
        if os.preadv(files[stored.path], [row.data], offset) != size:
            raise CheckpointError(stored.path, f"expected {size} bytes at {offset}: it changed")
    flat = raw.reshape(-1)
    if not codec.all_finite(flat, dtype, np.empty_like(flat)):
        raise CheckpointError(
            stored.path, f"expected finite weights, got NaN or infinity in {stored.name}"
        )
    values = codec.decode(flat, dtype, np.empty(n * columns, np.float32)).reshape(n, columns)
    return np.pad(values, ((0, 0), (0, tensor.columns - columns)))


def _energy(values: Floats, importance: Floats | None) -> float:
    """Sum of squares (n, columns), each column weighed by its importance."""
    squares = np.einsum("ij,ij->j", values, values, dtype=np.float64)
    return float(squares.sum() if importance is None else squares @ importance)
