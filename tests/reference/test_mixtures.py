"""Mixtures against llama-quantize: whole files, and its selector on MiMo-VL-7B's shapes."""

from __future__ import annotations

import ctypes
import filecmp
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest

from quantize.imatrix import Entry, Imatrix, write_imatrix
from quantize.recipes.mixtures import MIXTURES
from tests.quantize.mimo import TEXT, text_types
from tests.reference.conftest import Pair, our_pair

pytestmark = pytest.mark.reference

NEED_HEADS = {"iq4_nl", "iq4_xs"}
"""Mixtures with which llama-quantize aborts on an mmproj: it asks for heads that are not there."""


@pytest.fixture(scope="module")
def imatrix(converted: Callable[[str], Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Importances of both files' weights: some were never used, some are missing."""
    random = np.random.default_rng(3)
    entries = {}
    for path in converted("bf16"):
        for number, tensor in enumerate(gguf.GGUFReader(path).tensors):
            columns = int(tensor.shape[0])
            is_weight = len(tensor.shape) == 2 and not tensor.name.startswith("token_embd")
            if is_weight and number % 7:
                sums = np.exp(random.normal(0, 2, columns)).astype(np.float32)
                entries[tensor.name] = Entry(sums, 0 if number % 11 == 0 else 1000 + number)
    folder = tmp_path_factory.mktemp("imatrix") / ("a-name-that-makes-the-path-long-" * 4)
    folder.mkdir()
    path = folder / "imatrix.gguf"
    assert len(str(path)) > 127, "llama-quantize cuts what it writes of it"
    write_imatrix(path, Imatrix(entries, ("living room", "kitchen"), 12, 512))
    return path


def run(tool: Path, source: Path, out: Path, recipe: str, *flags: object) -> int:
    command = [tool, *flags, source, out, recipe, 2]
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    return done.returncode


@pytest.mark.parametrize("with_imatrix", [False, True], ids=["plain", "imatrix"])
@pytest.mark.parametrize("recipe", MIXTURES)
def test_files_equal_convert_and_llama_quantize(
    checkpoints: tuple[Path, Path],
    converted: Callable[[str], Pair],
    llama_quantize: Path,
    imatrix: Path,
    tmp_path: Path,
    recipe: str,
    with_imatrix: bool,
) -> None:
    ours = our_pair(checkpoints[0], tmp_path / "ours", recipe, imatrix if with_imatrix else None)
    flags: list[object] = ["--imatrix", imatrix] if with_imatrix else []
    for got, source in zip(ours, converted("bf16"), strict=True):
        # Without its rules; those that remain have no effect on an mmproj.
        pure = ["--pure"] if recipe in NEED_HEADS and source.name.startswith("mmproj") else []
        want = tmp_path / source.name
        assert run(llama_quantize, source, want, recipe, *flags, *pure) == 0
        same = filecmp.cmp(got, want, shallow=False)
        assert same, got.name


def test_llama_quantize_still_aborts_where_we_do_without_its_rules(
    converted: Callable[[str], Pair], llama_quantize: Path, tmp_path: Path
) -> None:
    assert run(llama_quantize, converted("bf16")[1], tmp_path / "out.gguf", "iq4_xs") < 0


class Description(ctypes.Structure):
    """struct llama_quant_model_desc of src/llama-ext.h."""

    _fields_ = (
        ("architecture", ctypes.c_char_p),
        *(
            (name, ctypes.c_uint32)
            for name in (
                "n_embd", "n_ff", "n_layer", "n_head", "n_head_kv", "n_expert", "n_embd_head_k",
                "n_embd_head_v",
            )
        ),
    )  # fmt: skip


# llama_quant_model_from_metadata, llama_quant_init, llama_quant_compute_types, as C++ spells them.
EXPORTED = (
    "_Z31llama_quant_model_from_metadataPK22llama_quant_model_desc",
    "_Z16llama_quant_initPK11llama_modelPK27llama_model_quantize_params",
    "_Z25llama_quant_compute_typesP19quantize_state_impl11llama_ftypePP11ggml_tensorP9ggml_typem",
)


@pytest.fixture(scope="module")
def selector() -> Iterator[Callable[[int, list[tuple[str, tuple[int, ...]]]], list[int]]]:
    """libllama's selector for MiMo-VL-7B: from llama_ftype and tensors to ggml types."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    llama, ggml = (ctypes.CDLL(str(folder / f"lib{name}.so")) for name in ("llama", "ggml-base"))
    make_model, init, compute = (getattr(llama, name) for name in EXPORTED)
    pointer = ctypes.c_void_p
    for function in (make_model, init, ggml.ggml_init, ggml.ggml_new_tensor):
        function.restype = pointer
    init.argtypes = [pointer, pointer]
    compute.argtypes = [pointer, ctypes.c_int, pointer, pointer, ctypes.c_size_t]
    ggml.ggml_new_tensor.argtypes = [pointer, ctypes.c_int, ctypes.c_int, pointer]
    ggml.ggml_set_name.argtypes = [pointer, ctypes.c_char_p]
    ggml.ggml_free.argtypes = [pointer]

    class Arena(ctypes.Structure):
        _fields_ = (("size", ctypes.c_size_t), ("buffer", pointer), ("no_alloc", ctypes.c_bool))

    ggml.ggml_init.argtypes = [Arena]
    description = Description(
        b"qwen2vl", TEXT.hidden, TEXT.ffn, TEXT.layers, TEXT.heads, TEXT.kv_heads, 0,
        TEXT.head_dim, TEXT.head_dim,
    )  # fmt: skip
    params = llama_cpp.llama_model_quantize_default_params()
    model = make_model(ctypes.byref(description))
    state = init(model, ctypes.byref(params))
    arena = ggml.ggml_init(Arena(1 << 23, None, True))

    def select(file_type: int, tensors: list[tuple[str, tuple[int, ...]]]) -> list[int]:
        handles = (pointer * len(tensors))()
        for i, (name, shape) in enumerate(tensors):
            sizes = (ctypes.c_int64 * len(shape))(*reversed(shape))
            handles[i] = ggml.ggml_new_tensor(arena, 30, len(shape), sizes)
            ggml.ggml_set_name(handles[i], name.encode())
        types = (ctypes.c_int * len(tensors))()
        compute(state, file_type, handles, types, len(tensors))
        return list(types)

    yield select
    ggml.ggml_free(arena)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("recipe", MIXTURES)
def test_types_equal_the_selectors_on_mimo_vl_7b(selector: Any, recipe: str, tied: bool) -> None:
    ours = [(t, type) for t, type in text_types(recipe, tied=tied) if len(t.shape) == 2]
    theirs = selector(MIXTURES[recipe].file_type, [(t.name, t.shape) for t, _ in ours])
    assert [int(type) for _, type in ours] == theirs
