"""Our own recipes, and the padding of the vision tower that they rest on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from benchmarks.synthesize import TINY, synthesize
from miloco_edge.llama import TextModel, VisionEncoder, VisionShape
from miloco_edge.llama.model import plan_weights
from miloco_edge.registry import read_header
from miloco_edge.registry.pair import check_pair
from quantize import Manifest, quantize
from quantize.codec import Type
from quantize.recipes import NAMES
from quantize.safetensors import read_header as read_safetensors
from tests.quantize.mimo import nbytes, text_types, vision, vision_types

OURS = tuple(name for name in NAMES if name.startswith("edge-"))
GIB = 2**30


def test_there_is_one_for_every_kind_of_device() -> None:
    assert OURS == ("edge-arm", "edge-cuda", "edge-metal", "edge-x86")


@pytest.mark.parametrize("recipe", OURS)
def test_those_that_nobody_measured_say_so(recipe: str) -> None:
    import quantize.recipes

    folder = Path(quantize.recipes.__file__).parent / "edge"
    says = "From kernel tables, unmeasured." in (folder / f"{recipe}.toml").read_text()
    assert says is (recipe != "edge-x86")


@pytest.mark.parametrize(
    ("recipe", "ffn", "expected", "size"),
    [
        ("edge-x86", 3456, {"Q5_K": 192, "Q6_K": 34}, 0.478),
        ("edge-x86", 3420, {"Q5_K": 192, "Q6_K": 34}, 0.478),
        ("edge-arm", 3456, {"Q8_0": 226}, 0.682),
        ("edge-arm", 3420, {"Q8_0": 226}, 0.678),
        ("edge-cuda", 3456, {"Q8_0": 226}, 0.682),
        ("edge-metal", 3420, {"BF16": 226}, 1.269),
    ],
)
def test_no_weight_of_the_vision_tower_falls_back(
    recipe: str, ffn: int, expected: dict[str, int], size: float
) -> None:
    types = vision_types(recipe, ffn)
    assert Counter(type.name for _, type in types if type is not Type.F32) == expected
    assert nbytes(types) / GIB == pytest.approx(size, abs=5e-4)


@pytest.mark.parametrize("recipe", OURS)
def test_the_language_model_has_a_mixture_of_llama_quantizes(recipe: str) -> None:
    mixture = "iq4_xs" if recipe == "edge-cuda" else "q4_k_m"
    for has_imatrix in (False, True):
        ours = text_types(recipe, has_imatrix=has_imatrix)
        assert ours == text_types(mixture, has_imatrix=has_imatrix)


@pytest.mark.parametrize(
    ("ffn", "multiple", "padded"), [(3456, 256, 3584), (3420, 32, 3424), (3456, 32, 3456),
                                    (1200, 256, 1536), (3456, 1, 3456)],
)  # fmt: skip
def test_the_width_is_padded_to_the_next_multiple_that_is_not_the_hidden_width(
    ffn: int, multiple: int, padded: int
) -> None:
    assert vision(ffn, multiple).padded_ffn == padded


ODD = replace(TINY, vit_intermediate_size=420)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose vision FFN fits no type's blocks."""
    return synthesize(tmp_path_factory.mktemp("odd") / "odd", ODD)


@pytest.fixture(scope="module")
def edge(odd: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("edge")
    return out, quantize(odd, out, recipe="edge-x86")


def source(folder: Path, name: str) -> np.ndarray:
    """A BF16 tensor of a checkpoint, as float32."""
    stored = {t.name: t for t in read_safetensors(folder / "model.safetensors")}[name]
    words = np.fromfile(stored.path, "<u2", stored.nbytes // 2, offset=stored.offset)
    return (words.astype(np.uint32) << 16).view(np.float32).reshape(stored.shape)


def test_the_pair_is_one_that_the_engine_accepts(edge: tuple[Path, Manifest]) -> None:
    out, made = edge
    assert [output.file for output in made.outputs] == [
        "odd-edge-x86.gguf", "mmproj-odd-edge-x86.gguf",
    ]  # fmt: skip
    text, mmproj = (read_header(out / output.file) for output in made.outputs)
    check_pair(text, mmproj)
    assert (text.file_type, mmproj.file_type) == ("Q4_K_M", "Q5_K_M")
    assert mmproj.metadata["clip.vision.feed_forward_length"] == 512
    assert plan_weights(text.file_type, "x86_64", 0).repack is False
    assert plan_weights(text.file_type, "aarch64", 0).repack is True


def test_padding_is_zero_and_the_rest_is_the_checkpoints(
    odd: Path, edge: tuple[Path, Manifest]
) -> None:
    out, made = edge
    reader = gguf.GGUFReader(out / made.outputs[1].file)
    got = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    for i in range(ODD.vit_depth):
        for part, rest in (("gate", np.s_[420:]), ("up", np.s_[420:]), ("down", np.s_[:, 420:])):
            weight = got[f"v.blk.{i}.ffn_{part}.weight"]
            assert weight.shape == ((256, 512) if part == "down" else (512, 256))
            assert not weight[rest].any()
            want = source(odd, f"visual.blocks.{i}.mlp.{part}_proj.weight")
            difference = weight[: want.shape[0], : want.shape[1]] - want
            assert 0 < np.square(difference).sum() < 0.01 * np.square(want).sum()
        for part in ("gate", "up"):
            bias = got[f"v.blk.{i}.ffn_{part}.bias"]
            assert bias.shape == (512,) and bias[:420].any() and not bias[420:].any()
        assert got[f"v.blk.{i}.ffn_down.bias"].shape == (256,)


def test_errors_do_not_count_the_padding(edge: tuple[Path, Manifest], odd: Path) -> None:
    out, made = edge
    reader = gguf.GGUFReader(out / made.outputs[1].file)
    name = "v.blk.1.ffn_down.weight"
    tensor = next(t for t in reader.tensors if t.name == name)
    weight = gguf.dequantize(tensor.data, tensor.tensor_type)
    want = source(odd, "visual.blocks.1.mlp.down_proj.weight")
    first = slice(0, 256 // 8)
    rmse = np.sqrt(np.mean((weight[first, :420] - want[first]) ** 2, dtype=np.float64))
    report = next(t for t in made.tensors if t.name == name)
    assert report.shape == (256, 512)
    assert report.rmse == pytest.approx(float(rmse), rel=1e-4)


def embeddings(folder: Path, made: Manifest, text: TextModel, ffn: int) -> np.ndarray:
    mmproj = folder / made.outputs[1].file
    shape = VisionShape(layers=ODD.vit_depth, hidden=256, ffn=ffn)
    y, x = np.mgrid[0:112, 0:168]
    picture = np.stack([x, y * 2, x + y], -1).astype(np.uint8)
    encoder = VisionEncoder(mmproj, text, shape, threads=1, use_gpu=False)
    try:
        return encoder.encode((picture, picture[::-1].copy())).embeddings
    finally:
        encoder.close()


def test_padding_does_not_change_a_bit_of_the_visual_tokens(tmp_path: Path) -> None:
    shape = replace(ODD, vit_intermediate_size=480)
    folder = synthesize(tmp_path / "checkpoint", shape)
    (tmp_path / "padded.toml").write_text(
        '[text]\ndefault="BF16"\n[mmproj]\ndefault="BF16"\npad_ffn=256'
    )
    plain = quantize(folder, tmp_path / "plain", recipe="bf16")
    padded = quantize(folder, tmp_path / "padded", recipe=str(tmp_path / "padded.toml"))
    model = TextModel(tmp_path / "plain" / plain.outputs[0].file, file_type="BF16")
    try:
        want = embeddings(tmp_path / "plain", plain, model, 480)
        got = embeddings(tmp_path / "padded", padded, model, 512)
    finally:
        model.close()
    assert np.isfinite(want).all() and want.any()
    assert (got == want).all()


def test_the_quantized_tower_sees_what_the_exact_one_sees(
    odd: Path, edge: tuple[Path, Manifest], tmp_path: Path
) -> None:
    out, made = edge
    exact = quantize(odd, tmp_path, recipe="bf16")
    model = TextModel(tmp_path / exact.outputs[0].file, file_type="BF16")
    try:
        want = embeddings(tmp_path, exact, model, 420)
        got = embeddings(out, made, model, 512)
    finally:
        model.close()
    cosine = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    assert cosine.min() > 0.95
