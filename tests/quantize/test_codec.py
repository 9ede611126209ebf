from __future__ import annotations

import numpy as np
import pytest

from quantize import codec
from quantize.codec import Type


def raw(values: list[float], dtype: str) -> codec.Bytes:
    return np.array(values, dtype).view(np.uint8)


def test_bfloat16_rounds_to_even_and_back() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.1415927], np.float32)
    out = codec.encode(values, Type.BF16, 4, np.empty(8, np.uint8))
    assert out.view(np.uint16).tolist() == [0x3F80, 0x3F80, 0x3F82, 0xC049]
    back = codec.decode(out, Type.BF16, np.empty(4, np.float32))
    assert back.tolist() == [1.0, 1.0, 1.015625, -3.140625]


def test_q8_0_is_a_scale_and_32_bytes() -> None:
    values = np.arange(-16, 16, dtype=np.float32)
    out = codec.encode(values, Type.Q8_0, 32, np.empty(64, np.uint8))
    assert out.size == codec.row_bytes(Type.Q8_0, 32) == 34
    assert out[:2].view(np.float16)[0] == np.float16(16 / 127)
    assert out[2:].view(np.int8)[[0, 16, 31]].tolist() == [-127, 0, 119]
    back = codec.decode(out, Type.Q8_0, np.empty(32, np.float32))
    assert np.abs(back - values).max() < 0.07


@pytest.mark.parametrize("type", [Type.Q4_0, Type.Q6_K, Type.Q8_0])
def test_any_cut_into_rows_gives_the_same_bytes(type: Type) -> None:
    values = np.random.default_rng(0).standard_normal(12 * 512, dtype=np.float32)
    whole = codec.encode(values, type, 512, np.empty(values.nbytes, np.uint8)).tobytes()
    parts = [
        codec.encode(part, type, 512, np.empty(values.nbytes, np.uint8)).tobytes()
        for part in (values[:512], values[512 : 5 * 512], values[5 * 512 :])
    ]
    assert b"".join(parts) == whole


@pytest.mark.parametrize(
    ("type", "dtype"), [(Type.F32, "<f4"), (Type.F16, "<f2"), (Type.BF16, None)]
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_found(type: Type, dtype: str | None, bad: float) -> None:
    values = np.ones(1000, np.float32)
    for position in (None, 0, 500, 999):
        mixed = values.copy()
        if position is not None:
            mixed[position] = bad
        bits = mixed.astype(dtype) if dtype else (mixed.view(np.uint32) >> 16).astype(np.uint16)
        finite = codec.all_finite(bits.view(np.uint8), type, np.empty(4000, np.uint8))
        assert finite is (position is None)


def test_the_largest_finite_numbers_pass() -> None:
    scratch = np.empty(64, np.uint8)
    assert codec.all_finite(raw([65504.0, -65504.0], "<f2"), Type.F16, scratch)
    assert codec.all_finite(raw([3.4e38, -3.4e38], "<f4"), Type.F32, scratch)


def test_an_overflow_of_f16_is_found() -> None:
    values = np.array([1.0, 70_000.0], np.float32)
    assert not codec.is_sound(codec.encode(values, Type.F16, 2, np.empty(4, np.uint8)), Type.F16)


@pytest.mark.parametrize("type", Type)
def test_no_type_aborts_without_importances(type: Type) -> None:
    """ggml asserts on some that are not among ours."""
    values = np.random.default_rng(0).standard_normal(512, dtype=np.float32)
    codec.prepare(type)
    out = codec.encode(values, type, 512, np.empty(2048, np.uint8))
    assert codec.is_sound(out, type)


def test_what_ggml_would_abort_on_is_refused_before() -> None:
    values = np.zeros(64, np.float32)
    with pytest.raises(ValueError, match="multiple of 32"):
        codec.row_bytes(Type.Q4_0, 33)
    with pytest.raises(ValueError, match="whole rows"):
        codec.encode(values, Type.Q4_0, 96, np.empty(64, np.uint8))
    with pytest.raises(ValueError, match="whole rows"):
        codec.encode(values, Type.F32, 64, np.empty(64, np.uint8))
    with pytest.raises(ValueError, match="importances"):
        codec.encode(values, Type.Q4_0, 64, np.empty(64, np.uint8), np.ones(32, np.float32))
    with pytest.raises(ValueError, match="expected 36 bytes"):
        codec.decode(np.empty(35, np.uint8), Type.Q4_0, values)
