"""How fast this machine multiplies by weights of each type, measured with llama.cpp's own kernels.

A random matrix is quantized, put where a model's weights would be, and multiplied by 256 columns
(prefill, ViT) and by one (decode). Which type is fast is not to be guessed: tiled kernels, tinyBLAS
and repacked rows each exist for some types and some CPUs (ggml-cpu/tiled, llamafile, repack.cpp).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

import gguf
import numpy as np
from llama_cpp import _ggml as llama_cpp_ggml
from numpy.typing import NDArray

from miloco_edge.errors import EngineError
from miloco_edge.llama import native

COLUMNS = 4096
"""Length of a row, a multiple of every type's block; a 7B model's hidden size."""
PREFILL_ROWS, PREFILL_TOKENS = 1024, 256
DECODE_ROWS = 8192
"""More weights than caches hold, as in a whole model."""

_DISTINCT_ROWS = 64  # then they repeat: some types take a second for a million weights
_ROUNDS, _LEAST_RUNS, _SECONDS = 2, 2, 0.02

_CPU = 0  # ggml_backend_dev_type
_F32 = 0
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class KernelSpeed:
    """Thousand million multiplications and additions a second, the best of several runs."""

    prefill: float
    decode: float


def kernel_speeds(types: Iterable[str], *, repack: bool) -> dict[str, KernelSpeed]:
    """Time each of `types` ("Q4_K"); a few seconds for fifteen of them on a PC.

    On one thread and in its CPU time, so that other processes disturb little; which types are fast
    does not depend on the number of threads.

    Without `repack` the weights lie as in the file, which is how an mmproj's and memory-mapped ones
    are used; with it, types that this CPU has interleaved kernels for use those. Raises EngineError
    where ggml cannot compute with a type.
    """
    random = np.random.default_rng(0)
    tile = random.standard_normal((_DISTINCT_ROWS, COLUMNS), dtype=np.float32)
    tokens = random.standard_normal((PREFILL_TOKENS, COLUMNS), dtype=np.float32)

    def speed(type: str, encoded: bytes, rows: int, inputs: Floats) -> float:
        weights = encoded * (rows // _DISTINCT_ROWS)
        with _product(type, weights, rows, inputs, repack) as product:
            return rows * inputs.size / product.best_seconds() / 1e9

    every = {type: _encode(type, tile) for type in types}
    speeds = dict.fromkeys(every, KernelSpeed(0.0, 0.0))
    for _ in range(_ROUNDS):  # types take turns, so that a busy second does not hit one alone
        for type, encoded in every.items():
            prefill = speed(type, encoded, PREFILL_ROWS, tokens)
            decode = speed(type, encoded, DECODE_ROWS, tokens[:1])
            best = speeds[type]
            speeds[type] = KernelSpeed(max(best.prefill, prefill), max(best.decode, decode))
    return speeds


def multiply(type: str, weights: Floats, inputs: Floats, *, repack: bool) -> Floats:
    """Return `inputs` (n, columns) times the transpose of `weights` (rows, columns) as `type`.

    (n, rows) float32. Raises EngineError where ggml cannot compute with the type.
    """
    encoded = _encode(type, weights)
    with _product(type, encoded, len(weights), inputs, repack) as product:
        return product.compute()


@dataclass(frozen=True)
class _Product:
    backend: int
    graph: int
    output: int
    shape: tuple[int, int]

    def compute(self) -> Floats:
        """Run the graph once and return (n, rows) float32."""
        self._run()
        out = np.empty(self.shape, np.float32)
        _ggml().ggml_backend_tensor_get(self.output, out.ctypes.data, 0, out.nbytes)
        return out

    def best_seconds(self) -> float:
        """The shortest of several runs: what else the machine does can only make one longer.

        With one thread, ggml computes in ours.
        """
        self._run()
        best, begun, runs = float("inf"), time.thread_time(), 0
        while runs < _LEAST_RUNS or time.thread_time() - begun < _SECONDS:
            started = time.thread_time()
            self._run()
            best, runs = min(best, time.thread_time() - started), runs + 1
        return best

    def _run(self) -> None:
        status = _ggml().ggml_backend_graph_compute(self.backend, self.graph)
        if status != 0:
            raise EngineError(f"expected ggml to multiply two matrices, got status {status}")


@contextmanager
def _product(
    type: str, encoded: bytes, rows: int, inputs: Floats, repack: bool
) -> Iterator[_Product]:
    """Set up a graph of one multiplication; all of it is freed on leaving."""
    native.start_backend()  # ggml says what it repacks; that goes to our log
    ggml, number = _ggml(), _number(type)
    n, columns = inputs.shape
    inputs = np.ascontiguousarray(inputs)
    with ExitStack() as stack:
        device = ggml.ggml_backend_dev_by_type(_CPU)
        backend = _made(ggml.ggml_backend_dev_init(device, None), "a CPU backend")
        stack.callback(ggml.ggml_backend_free, backend)
        ggml.ggml_backend_cpu_set_n_threads(backend, 1)

        plain = ggml.ggml_backend_cpu_buffer_type()
        for buffer_type in [*(_extra_buffer_types(device) if repack else ()), plain]:
            with ExitStack() as trial:
                holding = _context(trial)
                weight = ggml.ggml_new_tensor_2d(holding, number, columns, rows)
                _allocate(trial, holding, buffer_type)
                working = _context(trial)
                source = ggml.ggml_new_tensor_2d(working, _F32, columns, n)
                output = ggml.ggml_mul_mat(working, weight, source)
                _allocate(trial, working, plain)
                if ggml.ggml_backend_dev_supports_op(device, output):
                    stack.push(trial.pop_all())
                    break
        else:
            raise EngineError(f"expected ggml's CPU kernels to multiply by {type}, got none")
        graph = ggml.ggml_new_graph(working)
        ggml.ggml_build_forward_expand(graph, output)
        ggml.ggml_backend_tensor_set(weight, encoded, 0, len(encoded))
        ggml.ggml_backend_tensor_set(source, inputs.ctypes.data, 0, inputs.nbytes)
        yield _Product(backend, graph, output, (n, rows))


def _encode(type: str, weights: Floats) -> bytes:
    """Quantize (rows, columns) float32. IQ types are made without importances here: only their
    speed is asked for.
    """
    ggml, number = _ggml(), _number(type)
    rows, columns = weights.shape
    if columns % ggml.ggml_blck_size(number):
        raise ValueError(f"expected a multiple of {ggml.ggml_blck_size(number)}, got {columns}")
    weights = np.ascontiguousarray(weights)
    out = ctypes.create_string_buffer(rows * ggml.ggml_row_size(number, columns))
    ggml.ggml_quantize_chunk(number, weights.ctypes.data, out, 0, rows, columns, None)
    return out.raw


def _context(stack: ExitStack) -> int:
    """A ggml context for a few tensors' descriptions and a graph."""
    ggml = _ggml()
    size = 4 * ggml.ggml_tensor_overhead() + ggml.ggml_graph_overhead()
    context = _made(ggml.ggml_init(_InitParams(size, None, True)), "a context")
    stack.callback(ggml.ggml_free, context)
    return context


def _allocate(stack: ExitStack, context: int, buffer_type: int) -> None:
    ggml = _ggml()
    buffer = ggml.ggml_backend_alloc_ctx_tensors_from_buft(context, buffer_type)
    stack.callback(ggml.ggml_backend_buffer_free, _made(buffer, "a buffer"))


def _made(address: int | None, what: str) -> int:
    if not address:
        raise EngineError(f"expected ggml to give {what}, got none")
    return address


def _extra_buffer_types(device: int) -> list[int]:
    """Where llama.cpp puts weights to be repacked, in its order (llama-model.cpp)."""
    ggml = _ggml()
    registry = ggml.ggml_backend_dev_backend_reg(device)
    name = b"ggml_backend_dev_get_extra_bufts"
    address = ggml.ggml_backend_reg_get_proc_address(registry, name)
    if not address:
        return []
    get = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
    found: list[int] = []
    for each in get(device):  # ends with NULL
        if each is None:
            break
        found.append(each)
    return found


def _number(type: str) -> int:
    """ggml's number of a type."""
    try:
        return int(gguf.GGMLQuantizationType[type])
    except KeyError as error:
        raise EngineError(f"expected a type that ggml knows, got {type}") from error


class _InitParams(ctypes.Structure):
    """struct ggml_init_params of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


@cache
def _ggml() -> ctypes.CDLL:
    """libggml; what it is linked against, libggml-base and libggml-cpu, is found through it."""
    library = ctypes.CDLL(llama_cpp_ggml.libggml._name)
    pointer, size, number, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p
    count = ctypes.c_int64
    for name, result, *arguments in (
        ("ggml_blck_size", count, number),
        ("ggml_row_size", size, number, count),
        ("ggml_quantize_chunk", size, number, pointer, pointer, count, count, count, pointer),
        ("ggml_init", pointer, _InitParams),
        ("ggml_free", None, pointer),
        ("ggml_tensor_overhead", size),
        ("ggml_graph_overhead", size),
        ("ggml_new_tensor_2d", pointer, pointer, number, count, count),
        ("ggml_mul_mat", pointer, pointer, pointer, pointer),
        ("ggml_new_graph", pointer, pointer),
        ("ggml_build_forward_expand", None, pointer, pointer),
        ("ggml_backend_dev_by_type", pointer, number),
        ("ggml_backend_dev_init", pointer, pointer, text),
        ("ggml_backend_dev_backend_reg", pointer, pointer),
        ("ggml_backend_dev_supports_op", ctypes.c_bool, pointer, pointer),
        ("ggml_backend_reg_get_proc_address", pointer, pointer, text),
        ("ggml_backend_free", None, pointer),
        ("ggml_backend_cpu_buffer_type", pointer),
        ("ggml_backend_cpu_set_n_threads", None, pointer, number),
        ("ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer),
        ("ggml_backend_buffer_free", None, pointer),
        ("ggml_backend_tensor_set", None, pointer, pointer, size, size),
        ("ggml_backend_tensor_get", None, pointer, pointer, size, size),
        ("ggml_backend_graph_compute", number, pointer, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
