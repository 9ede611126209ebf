"""Sums of squared activations by input column of every weight: what an imatrix is made of.

llama.cpp asks a callback about every node of a graph before it computes it, and hands over the
nodes that were wanted (ggml-backend.h, ggml_backend_sched_eval_callback). Here these are the
multiplications by weights of the file. The graph is cut at each of them and the backend waits for
it, so a callback is set for calibration alone; llama.cpp's abort flag works in each part.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from miloco_edge.errors import EngineError, NonFiniteError

Modality = Literal["text", "visual"]

# A weight's name, which a GPU's copy of it carries inside "CUDA0#...#0". A tied output is a
# multiplication by token_embd; llama.cpp looks embeddings up without one.
_WEIGHT = re.compile(
    r"(?:.*#)?((?:(?:v\.)?blk\.\d+\.\w+|mm\.\d+|output|token_embd)\.weight)(?:#\d+)?"
)
_F32 = 0
_OBJECT_BYTES = 32  # struct ggml_object, which ggml_tensor_overhead counts as well


@dataclass(frozen=True)
class ColumnSums:
    """What went into one weight."""

    sums: NDArray[np.float64]
    """(columns,): for each input column, the sum of its squares over all rows."""
    rows: int

    def __add__(self, other: ColumnSums) -> ColumnSums:
        return ColumnSums(self.sums + other.sums, self.rows + other.rows)


Observed = Mapping[tuple[Modality, str], ColumnSums]
"""By what the rows stand for, and the name of the weight that they were multiplied by."""


class ActivationSums:
    """Adds up squared activations of the language model and the ViT while it is started.

    Give it to the context and the vision encoder when they are made. Rows of text tokens and rows
    of visual tokens (all of the ViT's) are kept apart. Used by the thread that owns the model;
    `start` and `take` are called while that thread is idle.
    """

    def __init__(self) -> None:
        """Raise EngineError where llama.cpp's tensors are not laid out as we read them."""
        self._mul_mat = _number_of_mul_mat()
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._on_node)
        self._started = False
        self._modality: Modality | None = None
        self._failure: Exception | None = None
        self._latest: tuple[int, ColumnSums] | None = None
        self._sums: dict[tuple[Modality, str], ColumnSums] = {}
        self._names: dict[bytes, str | None] = {}

    def start(self) -> None:
        """Begin from nothing."""
        self._sums = {}
        self._started = True

    def take(self) -> Observed:
        """Stop, and return what was added up."""
        self._started = False
        sums, self._sums = self._sums, {}
        return sums

    @contextmanager
    def during(self, modality: Modality) -> Iterator[None]:
        """Count the rows of one computation. Raises NonFiniteError that names the tensor."""
        self._modality = modality if self._started else None
        self._latest = self._failure = None
        try:
            yield
        finally:
            self._modality = None
        if self._failure is not None:
            raise self._failure

    def _on_node(self, address: int, ask: bool, _: object) -> bool:
        """Say whether the node is wanted, or add it up. False to the latter would stop the graph.

        An exception cannot cross C, so the first one is kept for `during`.
        """
        if self._modality is None or self._failure is not None:
            return not ask
        try:
            node = _Tensor.from_address(address)
            if ask:
                return node.op == self._mul_mat and self._is_wanted(node, self._modality)
            self._add(node, self._modality)
        except Exception as error:
            self._failure = error
        return not ask

    def _is_wanted(self, node: _Tensor, modality: Modality) -> bool:
        name = self._weight_name(node)
        if name is None or 0 in _Tensor.from_address(node.src[1]).ne:
            return False
        # attn_q, attn_k and attn_v have one input, ffn_gate and ffn_up another: summed once.
        if self._latest is not None and self._latest[0] == node.src[1]:
            self._credit(modality, name, self._latest[1])
            return False
        return True

    def _add(self, node: _Tensor, modality: Modality) -> None:
        name = self._weight_name(node)
        assert name is not None
        rows = _rows(node.src[1])
        sums = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        if not np.isfinite(sums).all():
            raise NonFiniteError(f"input of {name}")
        columns = ColumnSums(sums, len(rows))
        self._latest = (node.src[1], columns)
        self._credit(modality, name, columns)

    def _credit(self, modality: Modality, name: str, columns: ColumnSums) -> None:
        held = self._sums.get((modality, name))
        self._sums[modality, name] = columns if held is None else held + columns

    def _weight_name(self, node: _Tensor) -> str | None:
        spelled = _Tensor.from_address(node.src[0]).name
        if spelled not in self._names:
            match = _WEIGHT.fullmatch(spelled.decode("utf-8", "replace"))
            self._names[spelled] = match.group(1) if match else None
        return self._names[spelled]


def observing(observer: ActivationSums | None, modality: Modality) -> AbstractContextManager[None]:
    """`observer.during(modality)`, or nothing without an observer."""
    return nullcontext() if observer is None else observer.during(modality)


class _Tensor(ctypes.Structure):
    """struct ggml_tensor of ggml.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


class _InitParams(ctypes.Structure):
    """struct ggml_init_params of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def _rows(address: int) -> NDArray[np.float32]:
    """The rows of a tensor of activations, (rows, columns) float32, wherever they lie.

    On the host they are read where they are: valid until the callback returns.
    """
    tensor = _Tensor.from_address(address)
    if tensor.type != _F32 or not tensor.buffer:
        raise EngineError(f"expected float32 activations in a buffer, got type {tensor.type}")
    size = _ggml().ggml_nbytes(address)
    if _ggml().ggml_backend_buffer_is_host(tensor.buffer):
        raw = (ctypes.c_char * size).from_address(tensor.data)
    else:
        raw = (ctypes.c_char * size)()
        _ggml().ggml_backend_tensor_get(address, raw, 0, size)
    values: NDArray[np.float32] = np.ndarray(
        tuple(tensor.ne)[::-1], np.float32, raw, strides=tuple(tensor.nb)[::-1]
    )
    return values.reshape(-1, tensor.ne[0])


@cache
def _ggml() -> ctypes.CDLL:
    folder = Path(llama_cpp.__file__).parent / "lib"
    names = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise EngineError(f"expected libggml-base in {folder}, found none")
    library = ctypes.CDLL(str(path))
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    for name, result, *arguments in (
        ("ggml_nbytes", size, pointer),
        ("ggml_backend_buffer_is_host", ctypes.c_bool, pointer),
        ("ggml_backend_tensor_get", None, pointer, pointer, size, size),
        ("ggml_tensor_overhead", size),
        ("ggml_op_name", text, ctypes.c_int),
        ("ggml_init", pointer, _InitParams),
        ("ggml_free", None, pointer),
        ("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64),
        ("ggml_set_name", pointer, pointer, text),
        ("ggml_mul_mat", pointer, pointer, pointer, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _Seen(NamedTuple):
    """What we read of a multiplication that ggml made before our eyes."""

    overhead: int
    op: bytes
    weight: bytes
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    on_host: bool


def _probe() -> tuple[int, _Seen]:
    """The number of MUL_MAT, and what `_Tensor` reads of one."""
    ggml = _ggml()
    context = ggml.ggml_init(_InitParams(16384, None, False))
    try:
        weight = ggml.ggml_new_tensor_2d(context, _F32, 32, 5)
        ggml.ggml_set_name(weight, b"blk.0.attn_q.weight")
        product = _Tensor.from_address(
            ggml.ggml_mul_mat(context, weight, ggml.ggml_new_tensor_2d(context, _F32, 32, 3))
        )
        same = product.src[0] == weight
        source = _Tensor.from_address(weight)
        op = ggml.ggml_op_name(product.op) if 0 < product.op < 64 else b""
        return product.op, _Seen(
            ggml.ggml_tensor_overhead() - _OBJECT_BYTES,
            op,
            source.name if same else b"",
            (*source.ne, *product.ne),
            tuple(source.nb),
            bool(source.data) and not source.buffer,
        )
    finally:
        ggml.ggml_free(context)


_EXPECTED = _Seen(
    ctypes.sizeof(_Tensor),
    b"MUL_MAT",
    b"blk.0.attn_q.weight",
    (32, 5, 1, 1, 5, 3, 1, 1),
    (4, 128, 640, 640),
    True,
)


def _number_of_mul_mat() -> int:
    """GGML_OP_MUL_MAT. Raise EngineError unless ggml's own tensors read as we expect."""
    number, seen = _probe()
    if seen != _EXPECTED:
        raise EngineError(
            f"expected llama.cpp's tensors to read as {_EXPECTED}, got {seen}",
            hint="calibration reads them by offset; install the llama-cpp-python that "
            "this package pins",
        )
    return number
