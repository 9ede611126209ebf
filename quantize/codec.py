"""ggml's number formats, through ctypes: the one place that calls into libggml-base.

The functions abort the process on arguments they do not like, so callers go through the checks
here. ctypes releases the GIL, so encoding runs on as many threads as there are.
"""

from __future__ import annotations

import ctypes
import importlib.util
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import QuantizeError

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Type(IntEnum):
    """ggml's tensor types (enum ggml_type) that a recipe may choose."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    IQ3_XXS = 18
    IQ4_NL = 20
    IQ3_S = 21
    IQ4_XS = 23
    BF16 = 30


IGNORE_IMPORTANCE = frozenset({Type.F32, Type.F16, Type.BF16, Type.Q8_0})
"""Types whose encoder does not look at `importance`."""
NEED_IMPORTANCE = frozenset({Type.IQ3_XXS})
"""Types of which llama-quantize refuses to make anything without importances."""

SOURCES = {"F32": Type.F32, "F16": Type.F16, "BF16": Type.BF16}
"""safetensors' types that can be read, and what they are in ggml."""

_EXPONENTS = {Type.F32: 0x7F800000, Type.F16: 0x7C00, Type.BF16: 0x7F80}


class _Traits(ctypes.Structure):
    """struct ggml_type_traits of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    )


@cache
def _ggml() -> ctypes.CDLL:
    spec = importlib.util.find_spec("llama_cpp")
    folders = [Path(place) / "lib" for place in (spec and spec.submodule_search_locations) or ()]
    names = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            library = ctypes.CDLL(str(path))
            break
    else:
        raise QuantizeError(
            "expected libggml-base in llama-cpp-python's folder, found none",
            hint="reinstall llama-cpp-python",
        )
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_int64, ctypes.c_void_p,
    )  # fmt: skip
    library.ggml_quantize_init.argtypes = (ctypes.c_int,)
    library.ggml_quantize_init.restype = None
    library.ggml_get_type_traits.argtypes = (ctypes.c_int,)
    library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    library.ggml_validate_row_data.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    library.ggml_validate_row_data.restype = ctypes.c_bool
    return library


@cache
def _traits(type: Type) -> _Traits:
    traits: _Traits = _ggml().ggml_get_type_traits(type).contents
    return traits


def prepare(type: Type) -> None:
    """Build the tables of `type`; once, before any thread encodes."""
    _ggml().ggml_quantize_init(type)
    _traits(type)


@cache
def block_size(type: Type) -> int:
    """Weights per block; rows must be a multiple of it."""
    return int(_traits(type).blck_size)


@cache
def row_bytes(type: Type, columns: int) -> int:
    """Bytes of a row of `columns` weights, a multiple of `block_size`."""
    if columns % block_size(type):
        raise ValueError(f"expected a multiple of {block_size(type)} columns, got {columns}")
    return columns // block_size(type) * int(_traits(type).type_size)


def all_finite(raw: Bytes, type: Type, scratch: Bytes) -> bool:
    """Whether none of the numbers is NaN or infinite: an exponent of all ones says that.

    `raw` is (n bytes,) of F32, F16 or BF16; `scratch` is at least as large and is overwritten.
    """
    unsigned = np.uint32 if type is Type.F32 else np.uint16
    exponents: NDArray[Any] = scratch[: raw.size].view(unsigned)
    np.bitwise_and(raw.view(unsigned), _EXPONENTS[type], out=exponents)
    return bool(exponents.max() != _EXPONENTS[type])


def decode(raw: Bytes, type: Type, out: Floats) -> Floats:
    """Convert whole rows of `type` to float32 in `out` (n,), which is returned."""
    if row_bytes(type, out.size) != raw.size:
        raise ValueError(f"expected {row_bytes(type, out.size)} bytes, got {raw.size}")
    if type is Type.F32:
        out[:] = raw.view(np.float32)
    else:
        _traits(type).to_float(raw.ctypes.data, out.ctypes.data, out.size)
    return out


def encode(
    values: Floats, type: Type, columns: int, out: Bytes, importance: Floats | None = None
) -> Bytes:
    """Convert whole rows of float32 (rows * columns,) to `type`; return the part of `out` used.

    `importance` (columns,) float32 weighs the error of every column, the same in every row.
    Rows do not depend on each other, so any cut into calls gives the same bytes.
    """
    rows, rest = divmod(values.size, columns)
    size = rows * row_bytes(type, columns)
    if rest or not values.flags.c_contiguous or size > out.size:
        raise ValueError(f"expected whole rows of {columns} and {size} bytes, got {values.size}")
    if importance is not None and importance.shape != (columns,):
        raise ValueError(f"expected {columns} importances, got {importance.shape}")
    weights = None if importance is None else importance.ctypes.data
    done = _ggml().ggml_quantize_chunk(
        type, values.ctypes.data, out.ctypes.data, 0, rows, columns, weights
    )
    assert done == size, f"expected {size} bytes of {type.name}, got {done}"
    return out[:size]


def is_sound(raw: Bytes, type: Type) -> bool:
    """Whether encoded rows hold no NaN or infinite scale or number (ggml_validate_row_data)."""
    return bool(_ggml().ggml_validate_row_data(type, raw.ctypes.data, raw.size))
