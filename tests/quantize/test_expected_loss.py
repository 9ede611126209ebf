"""Losses from sampled rows: the formula, the sampling, and what cannot be sampled."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthesize import TINY, synthesize
from quantize import codec, expected_loss
from quantize.checkpoint import Checkpoint, open_checkpoint
from quantize.codec import Floats, Type
from quantize.devices import CANDIDATES
from quantize.errors import CheckpointError
from quantize.expected_loss import Trial, expected_losses
from quantize.names import Tensor
from quantize.plan import survey

DOWN = "blk.1.ffn_down.weight"


@pytest.fixture
def source(checkpoint: Path) -> Checkpoint:
    return open_checkpoint(checkpoint)


def find(source: Checkpoint, name: str, pad_ffn: int = 1) -> Tensor:
    every = survey(source, None)
    tensors = [*every.text().tensors, *every.mmproj(pad_ffn).tensors]
    return next(tensor for tensor in tensors if tensor.name == name)


def losses(source: Checkpoint, *trials: Trial, threads: int = 1) -> list[dict[Type, float]]:
    return [dict(each) for each in expected_losses(source, trials, threads=threads, progress=None)]


def values(source: Checkpoint, tensor: Tensor) -> Floats:
    """All of a BF16 tensor."""
    stored = source.tensors[tensor.source]
    raw = stored.path.read_bytes()[stored.offset : stored.offset + stored.nbytes]
    bits = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
    rows = bits.view(np.float32).reshape(stored.shape)
    return rows[tensor.first_row : tensor.first_row + tensor.unpadded[0]]


def by_hand(rows: Floats, type: Type, importance: Floats | None) -> float:
    """The loss over all rows."""
    out = np.empty(rows.nbytes, np.uint8)
    guide = None if type in codec.IGNORE_IMPORTANCE else importance
    raw = codec.encode(np.ascontiguousarray(rows).reshape(-1), type, rows.shape[1], out, guide)
    again = codec.decode(raw, type, np.empty(rows.size, np.float32)).reshape(rows.shape)
    weight = np.ones(rows.shape[1]) if importance is None else importance.astype(np.float64)
    error = (again.astype(np.float64) - rows) ** 2 @ weight
    return float(error.sum() / ((rows.astype(np.float64) ** 2) @ weight).sum())


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("name", [DOWN, "v.blk.2.attn_v.weight", "blk.0.attn_k.weight"])
def test_a_loss_is_the_weighted_error_over_the_weighted_energy(
    source: Checkpoint, monkeypatch: pytest.MonkeyPatch, name: str, guided: bool
) -> None:
    monkeypatch.setattr(expected_loss, "SAMPLED", 1 << 30)  # every row
    tensor = find(source, name)
    importance = None
    if guided:
        importance = np.random.default_rng(1).exponential(1, tensor.columns).astype(np.float32) ** 3
    (found,) = losses(source, Trial(tensor, CANDIDATES, importance))
    assert set(found) == set(CANDIDATES)
    for type, loss in found.items():
        assert loss == pytest.approx(by_hand(values(source, tensor), type, importance), rel=1e-4)
    assert found[Type.BF16] == 0.0
    assert 0 < found[Type.Q8_0] < found[Type.Q6_K] < found[Type.Q5_K] < found[Type.Q4_K]
    assert found[Type.Q4_K] < found[Type.Q3_K] < found[Type.Q2_K] < 1


def test_a_few_rows_tell_of_all(source: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_loss, "SAMPLED", 1 << 13)
    tensor = find(source, DOWN)
    (found,) = losses(source, Trial(tensor, (Type.Q4_K, Type.Q8_0), None))
    for type, loss in found.items():
        assert loss == pytest.approx(by_hand(values(source, tensor), type, None), rel=0.1)


def test_rows_are_spread_over_the_tensor(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad stretch anywhere is seen, at its share."""
    monkeypatch.setattr(expected_loss, "SAMPLED", 256 * 16)
    source = open_checkpoint(checkpoint)
    tensor = find(source, "token_embd.weight")
    stored = source.tensors[tensor.source]
    rows, size = stored.shape[0], stored.nbytes // stored.shape[0]
    for start in (0, rows // 2, rows - rows // 16):
        data = bytearray(stored.path.read_bytes())
        begin = stored.offset + start * size
        data[begin : begin + rows // 16 * size] = bytes(rows // 16 * size)  # zero: no energy
        damaged = tmp_path / "model.safetensors"
        damaged.write_bytes(data)
        moved = replace(stored, path=damaged)
        with damaged.open("rb") as file:
            sample = expected_loss._sample(moved, {damaged: file.fileno()}, tensor)
        assert sample.shape == (16, 256)
        assert (~sample.any(axis=1)).sum() == 1


def test_threads_and_order_change_nothing(source: Checkpoint) -> None:
    trials = [
        Trial(find(source, name), (Type.Q4_K, Type.IQ4_NL, Type.Q2_K), None)
        for name in (DOWN, "output.weight", "mm.0.weight", "v.blk.0.ffn_up.weight")
    ]
    once = losses(source, *trials)
    assert losses(source, *trials, threads=3) == once
    assert losses(source, *trials[::-1]) == once[::-1]


def test_columns_that_do_not_matter_do_not_count(source: Checkpoint) -> None:
    tensor = find(source, DOWN)
    half = np.ones(tensor.columns, np.float32)
    half[256:] = 1e-6
    types = (Type.Q4_K, Type.Q2_K)
    plain, guided = losses(source, Trial(tensor, types, None), Trial(tensor, types, half))
    assert all(guided[type] < 1.05 * plain[type] for type in plain)
    none = np.zeros(tensor.columns, np.float32)
    assert losses(source, Trial(tensor, (Type.Q4_K,), none))[0] == {Type.Q4_K: plain[Type.Q4_K]}


def test_padding_unlocks_types_and_does_not_change_the_others(tmp_path: Path) -> None:
    shape = replace(TINY, vit_intermediate_size=480)
    source = open_checkpoint(synthesize(tmp_path / "odd", shape))
    name = "v.blk.0.ffn_down.weight"
    plain, padded = (find(source, name, pad) for pad in (1, 256))
    assert (plain.columns, padded.columns) == (480, 512)
    before, after = losses(
        source, Trial(plain, (Type.Q8_0,), None), Trial(padded, (Type.Q8_0, Type.Q4_K), None)
    )
    assert after[Type.Q8_0] == pytest.approx(before[Type.Q8_0], rel=1e-6)
    assert 0 < after[Type.Q4_K] < 0.05


def damage(folder: Path, source: str, numbers: Sequence[float]) -> Checkpoint:
    """A checkpoint in BF16 of which one tensor repeats the given numbers."""
    synthesize(folder, TINY)
    stored = open_checkpoint(folder).tensors[source]
    bits = b"".join(struct.pack("<f", number)[2:] for number in numbers)
    with stored.path.open("r+b") as file:
        file.seek(stored.offset)
        file.write(bits * (stored.nbytes // len(bits)))
    return open_checkpoint(folder)


def test_weights_of_zero_lose_nothing(tmp_path: Path) -> None:
    source = damage(tmp_path / "zero", "model.layers.1.mlp.down_proj.weight", [0.0])
    (found,) = losses(source, Trial(find(source, DOWN), CANDIDATES, None))
    assert found == dict.fromkeys(CANDIDATES, 0.0)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    source = damage(tmp_path / "nan", "model.layers.1.mlp.down_proj.weight", [1.0, float("nan")])
    with pytest.raises(CheckpointError, match="expected finite weights, got NaN or infinity"):
        losses(source, Trial(find(source, DOWN), (Type.Q4_K,), None))


def test_types_that_cannot_hold_the_weights_fall_out(tmp_path: Path) -> None:
    source = damage(tmp_path / "large", "model.layers.1.mlp.down_proj.weight", [1e30, -3e29])
    tensor = find(source, DOWN)
    (found,) = losses(source, Trial(tensor, (Type.Q8_0, Type.Q4_K, Type.BF16), None))
    assert found == {Type.BF16: 0.0}
    with pytest.raises(CheckpointError, match="within the range of one type at least"):
        losses(source, Trial(tensor, (Type.Q8_0, Type.Q4_K), None))


def test_progress_counts_the_bytes_that_are_sampled(source: Checkpoint) -> None:
    steps: list[tuple[int, int]] = []
    names = (DOWN, "blk.0.ffn_down.weight")
    trials = [Trial(find(source, name), (Type.Q8_0,), None) for name in names]
    expected_losses(
        source, trials, threads=2, progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(2**17, 2**18), (2**18, 2**18)]
