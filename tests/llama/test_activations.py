"""Sums of squared activations against numpy, and the traps of reading llama.cpp's graphs."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from miloco_edge.errors import EngineError, NonFiniteError
from miloco_edge.llama import (
    ActivationSums,
    ColumnSums,
    Context,
    TextModel,
    VisionEncoder,
    VisionShape,
    activations,
)
from miloco_edge.registry import read_header

SHAPE = VisionShape(layers=4, hidden=256, ffn=512)
TOKENS = np.arange(40, 90, dtype=np.int32)


def text_file(pair: Path) -> Path:
    return next(p for p in pair.glob("*.gguf") if not p.name.startswith("mmproj"))


@pytest.fixture(scope="module")
def model(pair: Path) -> Iterator[TextModel]:
    model = TextModel(text_file(pair), file_type="BF16")
    yield model
    model.close()


@pytest.fixture(scope="module")
def observer() -> ActivationSums:
    return ActivationSums()


@pytest.fixture
def context(model: TextModel, observer: ActivationSums) -> Iterator[Context]:
    context = Context(model, n_ctx=256, threads=1, n_batch=32, n_seq=4, observer=observer)
    yield context
    context.close()


@pytest.fixture
def plain(model: TextModel) -> Iterator[Context]:
    context = Context(model, n_ctx=256, threads=1, n_batch=32, n_seq=4)
    yield context
    context.close()


def weight(pair: Path, name: str) -> NDArray[np.float32]:
    tensor = next(t for t in gguf.GGUFReader(text_file(pair)).tensors if t.name == name)
    if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
        return np.asarray(tensor.data)
    return gguf.dequantize(tensor.data, tensor.tensor_type)


def first_input(pair: Path, hidden: NDArray[np.float32]) -> NDArray[np.float64]:
    """What block 0's attention is given for rows that enter the model: their RMS norm."""
    x = hidden.astype(np.float64)
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6)
    return x * weight(pair, "blk.0.attn_norm.weight")


def test_sums_of_text_and_visual_rows_are_numpys(
    pair: Path, context: Context, observer: ActivationSums
) -> None:
    visual = np.random.default_rng(0).standard_normal((45, 256)).astype(np.float32)
    sequence = context.new_sequence()
    observer.start()
    context.decode_tokens(sequence, TOKENS, 0)
    context.decode_visual(sequence, visual, np.full((3, 45), 50, np.int32))
    sums = observer.take()
    embedded = weight(pair, "token_embd.weight")[TOKENS]
    for modality, hidden in (("text", embedded), ("visual", visual)):
        expected = (first_input(pair, hidden) ** 2).sum(axis=0)
        for name in ("attn_q", "attn_k", "attn_v"):
            got = sums[modality, f"blk.0.{name}.weight"]
            assert got.rows == len(hidden)
            np.testing.assert_allclose(got.sums, expected, rtol=1e-4)


def test_every_weight_of_the_text_model_sees_every_text_row(
    pair: Path, context: Context, observer: ActivationSums
) -> None:
    sequence = context.new_sequence()
    observer.start()
    context.decode_tokens(sequence, TOKENS, 0)
    context.decode_visual(sequence, np.ones((40, 256), np.float32), np.full((3, 40), 50, np.int32))
    sums = observer.take()
    names = {t.name for t in read_header(text_file(pair)).tensors if len(t.shape) == 2}
    names.discard("token_embd.weight")
    assert {name for modality, name in sums if modality == "text"} == names
    assert {c.rows for (m, _), c in sums.items() if m == "text"} == {len(TOKENS)}
    # Visual rows never are outputs: the last block's FFN does not compute them.
    skipped = {name for name in names if name.startswith("blk.2.ffn")}
    assert names - {name for m, name in sums if m == "visual"} == skipped | {"output.weight"}


def test_nothing_is_counted_before_start_or_after_take(
    context: Context, observer: ActivationSums
) -> None:
    sequence = context.new_sequence()
    context.decode_tokens(sequence, TOKENS, 0)
    observer.start()
    context.decode_tokens(sequence, TOKENS[:1], 50)
    assert {columns.rows for columns in observer.take().values()} == {1}
    context.decode_tokens(sequence, TOKENS[:1], 51)
    assert observer.take() == {}


def test_observing_changes_no_answer(
    context: Context, plain: Context, observer: ActivationSums
) -> None:
    expected = plain.decode_tokens(plain.new_sequence(), TOKENS, 0)
    observer.start()
    got = context.decode_tokens(context.new_sequence(), TOKENS, 0)
    observer.take()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_context_without_an_observer_is_as_it_was(
    plain: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    real = activations.llama_cpp.llama_decode

    def record(handle: object, batch: object) -> int:
        seen.append([batch.logits[i] for i in range(batch.n_tokens)])  # type: ignore[attr-defined]
        return real(handle, batch)  # type: ignore[no-any-return]

    monkeypatch.setattr(activations.llama_cpp, "llama_decode", record)
    plain.decode_tokens(plain.new_sequence(), TOKENS, 0)
    assert seen == [[0] * 32, [0] * 17 + [1]]


def test_activations_on_a_device_are_fetched(
    context: Context, observer: ActivationSums, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> dict[tuple[str, str], ColumnSums]:
        sequence = context.new_sequence()
        observer.start()
        context.decode_tokens(sequence, TOKENS, 0)
        context.drop_sequence(sequence)
        return dict(observer.take())

    here = run()
    fetched: list[int] = []
    ggml = activations._ggml()
    get = ggml.ggml_backend_tensor_get

    def count(tensor: int, out: object, offset: int, size: int) -> None:
        fetched.append(size)
        get(tensor, out, offset, size)

    monkeypatch.setattr(ggml, "ggml_backend_buffer_is_host", lambda buffer: False)
    monkeypatch.setattr(ggml, "ggml_backend_tensor_get", count)
    there = run()
    assert fetched
    assert here.keys() == there.keys()
    for key, columns in here.items():
        np.testing.assert_array_equal(columns.sums, there[key].sums)


def test_the_vision_tower_is_seen(pair: Path, model: TextModel, observer: ActivationSums) -> None:
    mmproj = next(pair.glob("mmproj*.gguf"))
    vision = VisionEncoder(mmproj, model, SHAPE, threads=1, use_gpu=False, observer=observer)
    try:
        picture = np.random.default_rng(1).integers(0, 255, (112, 84, 3), dtype=np.uint8)
        observer.start()
        vision.encode((picture, picture))
        sums = observer.take()
    finally:
        vision.close()
    names = {
        t.name
        for t in read_header(mmproj).tensors
        if len(t.shape) == 2 and not t.name.startswith("v.patch")
    }
    assert {key for key in sums} == {("visual", name) for name in names}
    for (_, name), columns in sums.items():
        assert columns.rows == (12 if name.startswith("mm.") else 48)
        assert (columns.sums >= 0).all() and columns.sums.any()


def test_nan_is_named_by_its_tensor(pair: Path, observer: ActivationSums, tmp_path: Path) -> None:
    damaged = Path(shutil.copy(text_file(pair), tmp_path))
    header = read_header(damaged)
    tensor = next(t for t in header.tensors if t.name == "blk.0.ffn_up.weight")
    with damaged.open("r+b") as file:
        file.seek(header.data_offset + tensor.offset)
        file.write(b"\xc0\x7f" * 64)
    model = TextModel(damaged, file_type="BF16")
    context = Context(model, n_ctx=64, threads=1, observer=observer)
    try:
        observer.start()
        with pytest.raises(NonFiniteError, match=r"input of blk\.0\.ffn_down\.weight"):
            context.decode_tokens(context.new_sequence(), TOKENS[:4], 0)
    finally:
        observer.take()
        context.close()
        model.close()


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        (b"blk.0.attn_q.weight", "blk.0.attn_q.weight"),
        (b"CUDA0#blk.12.ffn_down.weight#0", "blk.12.ffn_down.weight"),
        (b"v.blk.3.attn_out.weight", "v.blk.3.attn_out.weight"),
        (b"mm.0.weight", "mm.0.weight"),
        (b"output.weight", "output.weight"),
        (b"cache_k_l0 (view) (permuted)", None),
        (b"v.patch_embd.weight (reshaped)", None),
        (b"blk.0.attn_q.bias", None),
        (b"\xff\xfe", None),
    ],
)
def test_names(observer: ActivationSums, spelled: bytes, name: str | None) -> None:
    source = activations._Tensor()
    source.name = spelled
    product = activations._Tensor()
    product.src[0] = ctypes.addressof(source)
    assert observer._weight_name(product) == name


def test_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted(ctypes.Structure):
        _fields_ = (("new", ctypes.c_int64), *activations._Tensor._fields_)

    monkeypatch.setattr(activations, "_Tensor", Shifted)
    with pytest.raises(EngineError, match=r"expected llama\.cpp's tensors to read as"):
        ActivationSums()
