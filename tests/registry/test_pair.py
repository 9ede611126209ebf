"""A pair is refused where llama.cpp would abort, or answer nonsense."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from miloco_edge.errors import GGUFError, ModelMismatchError, RefusedError
from miloco_edge.registry import check_pair, read_header
from miloco_edge.registry.gguf_header import GGUFHeader
from miloco_edge.registry.pair import check_mmproj, check_text
from tests.registry.gguf_bytes import (
    BF16,
    F16,
    F32,
    I32,
    LAYERS,
    Q4_0,
    TOKENS,
    VIT_HIDDEN,
    VIT_WIDTH,
    WIDTH,
    Key,
    Tensor,
    flips,
    gguf,
    mmproj_keys,
    mmproj_tensors,
    text_keys,
    text_tensors,
    with_key,
    without_key,
    write_pair,
)


def header(tmp_path: Path, keys: Sequence[Key], tensors: Sequence[Tensor]) -> GGUFHeader:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(keys, tensors))
    return read_header(path)


def test_sound_pair(tmp_path: Path) -> None:
    text, mmproj = write_pair(tmp_path)
    check_pair(read_header(text), read_header(mmproj))


def test_pair_of_our_own_pipeline(pair: Path) -> None:
    (mmproj,) = pair.glob("mmproj*.gguf")
    (text,) = set(pair.glob("*.gguf")) - {mmproj}
    check_pair(read_header(text), read_header(mmproj))


def test_text_as_mmproj_and_the_reverse(tmp_path: Path) -> None:
    text, mmproj = map(read_header, write_pair(tmp_path))
    with pytest.raises(ModelMismatchError, match=r"an mmproj, got a model of .* qwen2vl"):
        check_pair(text, text)
    with pytest.raises(ModelMismatchError, match="expected a text model, got an mmproj"):
        check_pair(mmproj, mmproj)


def test_mmproj_of_another_width(tmp_path: Path) -> None:
    text = read_header(write_pair(tmp_path)[0])
    tensors: list[Tensor] = [
        (name, (shape[0], 128) if name == "mm.2.weight" else (128,), kind)
        if name.startswith("mm.2") else (name, shape, kind)
        for name, shape, kind in mmproj_tensors()
    ]  # fmt: skip
    wide = header(
        tmp_path, with_key(mmproj_keys(), "clip.vision.projection_dim", "u32", 128), tensors
    )
    check_mmproj(wide)
    with pytest.raises(ModelMismatchError, match=r"visual tokens of width 64 .* got 128") as caught:
        check_pair(text, wide)
    assert caught.value.hint


Q, TOKENIZER = "qwen2vl.", "tokenizer.ggml."
TEXT_KEYS: list[tuple[str, str, Any, type[Exception], str]] = [
    ("general.architecture", "str", "llama", ModelMismatchError, "architecture qwen2vl, got llama"),
    ("general.architecture", "u32", 7, ModelMismatchError, "architecture qwen2vl, got None"),
    ("general.name", "u32", 7, GGUFError, "general.name: expected str, got u32"),
    ("general.file_type", "str", "7", GGUFError, "general.file_type: expected u32"),
    ("split.count", "u16", 3, ModelMismatchError, "got the first of several parts"),
    ("general.tensor_extra.name", "[str]", ["x"], GGUFError, "expected no key"),
    (Q + "block_count", "u32", 0, GGUFError, "expected 1 to 512, got 0"),
    (Q + "block_count", "u32", 513, GGUFError, "expected 1 to 512, got 513"),
    (Q + "block_count", "u32", LAYERS + 1, GGUFError, r"the tensor blk\.2\.\S+, got none"),
    (Q + "block_count", "u32", LAYERS - 1, GGUFError, r"expected no tensor blk\.1\."),
    (Q + "block_count", "i32", LAYERS, GGUFError, "expected u32, got i32"),
    (Q + "block_count", "[u32]", [LAYERS], GGUFError, r"expected u32, got \[u32\]"),
    (Q + "embedding_length", "u32", 128, GGUFError, "add up to 32"),
    (Q + "embedding_length", "u32", 0xFFFFFFFF, GGUFError, "got 4294967295"),
    (Q + "feed_forward_length", "u32", 64, GGUFError, "expected shape"),
    (Q + "context_length", "u32", 0, GGUFError, "expected 1 to"),
    (Q + "attention.head_count", "u32", 0, GGUFError, "expected 1 to"),
    (Q + "attention.head_count", "u32", 3, GGUFError, "divide the width"),
    (Q + "attention.head_count", "u32", 64, GGUFError, "divide the width"),
    (Q + "attention.head_count_kv", "u32", 0, GGUFError, "expected 1 to 2, got 0"),
    (Q + "attention.head_count_kv", "u32", 2, GGUFError, "expected shape"),
    (Q + "attention.key_length", "u32", 16, GGUFError, "expected 32, got 16"),
    (Q + "attention.value_length", "u32", 64, GGUFError, "expected 32, got 64"),
    (Q + "attention.layer_norm_rms_epsilon", "f32", float("nan"), GGUFError, "got nan"),
    (Q + "attention.layer_norm_rms_epsilon", "f32", -1e-6, GGUFError, "a number between"),
    (Q + "attention.causal", "bool", 0, GGUFError, "expected True, got False"),
    (Q + "rope.dimension_count", "u32", 64, GGUFError, "expected 32, got 64"),
    (Q + "rope.dimension_sections", "[i32]", [4, 6, 6], GGUFError, "4 sizes that add up to 16"),
    (Q + "rope.dimension_sections", "[i32]", [4, 6, 7, 0], GGUFError, "add up to 16"),
    (Q + "rope.dimension_sections", "[i32]", [20, -2, -2, 0], GGUFError, "add up to 16"),
    (Q + "rope.dimension_sections", "[i32]", [2**31 - 1] * 4, GGUFError, "add up to 16"),
    (Q + "rope.dimension_sections", "i32", 4, GGUFError, r"expected \[i32\], got i32"),
    (Q + "rope.freq_base", "f32", float("inf"), GGUFError, "got inf"),
    (Q + "rope.freq_base", "f32", 0.0, GGUFError, "a number between"),
    (Q + "rope.scaling.type", "str", "sideways", GGUFError, "known kind of scaling"),
    (Q + "rope.scaling.factor", "f32", float("nan"), GGUFError, "got nan"),
    (Q + "expert_count", "u32", 8, GGUFError, "expert_count: expected 0, got 8"),
    (Q + "pooling_type", "u32", 3, GGUFError, "pooling_type: expected 0, got 3"),
    (Q + "nextn_predict_layers", "u32", 9, GGUFError, "expected 0, got 9"),
    (Q + "classifier.output_labels", "[str]", ["a"], GGUFError, "expected no key"),
    (Q + "vocab_size", "u32", 9, GGUFError, "expected the 8 tokens"),
    (TOKENIZER + "model", "str", "llama", ModelMismatchError, "expected gpt2, got llama"),
    (TOKENIZER + "pre", "str", "default", ModelMismatchError, "expected qwen2, got default"),
    (TOKENIZER + "tokens", "[str]", [*TOKENS[:-1], "a"], GGUFError, "8 different tokens, got 7"),
    (TOKENIZER + "tokens", "[str]", [*TOKENS[:-1], ""], GGUFError, "different tokens"),
    (TOKENIZER + "tokens", "[str]", TOKENS[:-1], GGUFError, "token_type: expected 7 types"),
    (TOKENIZER + "tokens", "[str]", [*TOKENS[1:], "z"], ModelMismatchError, r"<\|im_start\|>"),
    (TOKENIZER + "tokens", "[str]", [*TOKENS[:-1], b"\xff"], GGUFError, "text in UTF-8"),
    (TOKENIZER + "tokens", "[str]", [*TOKENS[:-2], b"\xc4", b"\xa0"], GGUFError, "text in UTF-8"),
    (TOKENIZER + "tokens", "str", "a b", GGUFError, r"expected \[str\], got str"),
    (TOKENIZER + "token_type", "[i32]", [1] * 7, GGUFError, "8 types of 0 to 6"),
    (TOKENIZER + "token_type", "[i32]", [1] * 7 + [7], GGUFError, "8 types of 0 to 6"),
    (TOKENIZER + "token_type", "[f32]", [1.0] * 8, GGUFError, r"expected \[i32\]"),
    (TOKENIZER + "merges", "[str]", ["a b"] * 8, GGUFError, "fewer than 8 pairs"),
    (TOKENIZER + "merges", "[str]", ["ab"], GGUFError, "pairs of two parts"),
    (TOKENIZER + "merges", "[str]", ["a "], GGUFError, "pairs of two parts"),
    (TOKENIZER + "scores", "[f32]", [0.0], GGUFError, "scores: expected 8, got 1"),
    (TOKENIZER + "eos_token_id", "u32", 8, GGUFError, "eos_token_id: expected below 8, got 8"),
    (TOKENIZER + "fim_pad_token_id", "u32", 99, GGUFError, "expected below 8, got 99"),
    (TOKENIZER + "padding_token_id", "i32", 1, GGUFError, "expected u32, got i32"),
    (TOKENIZER + "add_bos_token", "u8", 0, GGUFError, "expected bool, got u8"),
    (TOKENIZER + "suppress_tokens", "[i32]", [-1], GGUFError, "ids below 8"),
    ("tokenizer.chat_template", "[str]", ["{{"], GGUFError, "expected str"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "kind", "content", "error", "message"), TEXT_KEYS)
def test_text_key_is_refused(
    key: str, kind: str, content: Any, error: type[RefusedError], message: str, tmp_path: Path
) -> None:
    keys = with_key(text_keys(), key, kind, content)
    with pytest.raises(error, match=message) as caught:
        check_text(header(tmp_path, keys, text_tensors()))
    assert caught.value.hint


V = "clip.vision."
MMPROJ_KEYS: list[tuple[str, str, Any, type[Exception], str]] = [
    ("clip.projector_type", "str", "qwen2vl_merger", ModelMismatchError, "got qwen2vl_merger"),
    ("clip.projector_type", "str", "mimovl", ModelMismatchError, "got mimovl"),
    ("clip.projector_type", "u32", 1, GGUFError, "expected str, got u32"),
    ("clip.has_vision_encoder", "bool", 0, GGUFError, "has_vision_encoder: expected true"),
    ("clip.has_vision_encoder", "u8", 1, GGUFError, "expected bool, got u8"),
    ("clip.has_audio_encoder", "bool", 1, ModelMismatchError, "got audio too"),
    ("clip.use_silu", "bool", 0, GGUFError, "use_silu true"),
    ("clip.use_gelu", "bool", 1, GGUFError, "use_gelu false"),
    ("general.description", "u32", 1, GGUFError, "expected str, got u32"),
    (V + "patch_size", "u32", 16, GGUFError, "patch_size: expected 14, got 16"),
    (V + "patch_size", "u32", 0, GGUFError, "patch_size: expected 14"),
    (V + "patch_size", "i32", 14, GGUFError, "expected u32, got i32"),
    (V + "spatial_merge_size", "u32", 4, GGUFError, "spatial_merge_size: expected 2, got 4"),
    (V + "image_size", "u32", 8193, GGUFError, "expected 1 to 8192"),
    (V + "image_mean", "[f32]", [0.48, 0.46], GGUFError, "expected 3 finite numbers"),
    (V + "image_mean", "[f32]", [0.5, 0.5, 0.5], GGUFError, "image_mean: expected"),
    (V + "image_mean", "[f64]", [0.48, 0.46, 0.41], GGUFError, r"expected \[f32\], got \[f64\]"),
    (V + "image_std", "[f32]", [0.27, float("nan"), 0.28], GGUFError, "3 finite numbers"),
    (V + "image_std", "f32", 0.27, GGUFError, r"expected \[f32\], got f32"),
    (V + "n_wa_pattern", "u32", 0, GGUFError, "expected 1 to 512, got 0"),
    (V + "attention.layer_norm_epsilon", "f32", float("inf"), GGUFError, "got inf"),
    (V + "attention.layer_norm_epsilon", "f64", 1e-6, GGUFError, "expected f32, got f64"),
    (V + "attention.head_count", "u32", 0, GGUFError, "expected 1 to"),
    (V + "attention.head_count", "u32", 5, GGUFError, "expected to divide 32"),
    (V + "attention.head_count", "u32", 16, GGUFError, "expected to divide 32"),
    (V + "attention.head_dim", "u32", 8, GGUFError, "head_dim: expected 16, got 8"),
    (V + "attention.head_count_kv", "u32", 1, GGUFError, "expected 2, got 1"),
    (V + "block_count", "u32", 1 << 31, GGUFError, "expected 1 to 512"),
    (V + "block_count", "u32", 3, GGUFError, r"the tensor v\.blk\.2\."),
    (V + "block_count", "u32", 1, GGUFError, r"expected no tensor v\.blk\.1\."),
    (V + "embedding_length", "u32", 64, GGUFError, "expected"),
    (V + "feed_forward_length", "u32", 64, GGUFError, "feed_forward_length: expected 48, got 64"),
    (V + "projection_dim", "u32", 128, GGUFError, "mm.2.* expected shape"),
    (V + "feature_layer", "[i32]", [1], GGUFError, "expected no key"),
    (V + "wa_layer_indexes", "[i32]", [1], GGUFError, "expected no key"),
    ("clip.minicpmv_version", "u32", 3, GGUFError, "expected i32, got u32"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "kind", "content", "error", "message"), MMPROJ_KEYS)
def test_mmproj_key_is_refused(
    key: str, kind: str, content: Any, error: type[RefusedError], message: str, tmp_path: Path
) -> None:
    keys = with_key(mmproj_keys(), key, kind, content)
    with pytest.raises(error, match=message) as caught:
        check_mmproj(header(tmp_path, keys, mmproj_tensors()))
    assert caught.value.hint


OPTIONAL_TEXT = {
    "general.name", "general.file_type", Q + "attention.head_count_kv",
    TOKENIZER + "eos_token_id", TOKENIZER + "add_bos_token", "tokenizer.chat_template",
}  # fmt: skip
OPTIONAL_MMPROJ = {"general.type", "general.file_type"}


@pytest.mark.parametrize("key", sorted({key for key, *_ in text_keys()} - OPTIONAL_TEXT))
def test_text_key_is_needed(key: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        check_text(header(tmp_path, without_key(text_keys(), key), text_tensors()))


@pytest.mark.parametrize("key", sorted({key for key, *_ in mmproj_keys()} - OPTIONAL_MMPROJ))
def test_mmproj_key_is_needed(key: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        check_mmproj(header(tmp_path, without_key(mmproj_keys(), key), mmproj_tensors()))


@pytest.mark.parametrize("key", sorted(OPTIONAL_TEXT - {Q + "attention.head_count_kv"}))
def test_text_key_may_be_absent(key: str, tmp_path: Path) -> None:
    check_text(header(tmp_path, without_key(text_keys(), key), text_tensors()))


def edited(tensors: Sequence[Tensor], name: str, *new: Tensor) -> list[Tensor]:
    """`tensors` with one replaced by `new`."""
    assert name in {tensor[0] for tensor in tensors}
    return [out for tensor in tensors for out in (new if tensor[0] == name else (tensor,))]


BAD_TEXT_TENSORS: dict[str, tuple[list[Tensor], str]] = {
    "missing": (edited(text_tensors(), "output_norm.weight"), "the tensor output_norm.weight"),
    "foreign": ([*text_tensors(), ("rope_freqs.weight", (16,), F32)], "no tensor rope_freqs"),
    "shape": (
        edited(text_tensors(), "output_norm.weight", ("output_norm.weight", (32,), F32)),
        r"expected shape \(64,\), got \(32,\)",
    ),
    "swapped dims": (
        edited(text_tensors(), "blk.0.ffn_up.weight", ("blk.0.ffn_up.weight", (96, WIDTH), Q4_0)),
        r"expected shape \(64, 96\)",
    ),
    "vector in F16": (
        edited(text_tensors(), "output_norm.weight", ("output_norm.weight", (WIDTH,), F16)),
        "a type with a kernel for it, got F16",
    ),
    "matrix of integers": (
        [(name, shape, I32 if name == "blk.1.attn_q.weight" else kind)
         for name, shape, kind in text_tensors()], "got I32",
    ),
    "none": ([], "the tensor"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TEXT_TENSORS)
def test_text_tensor_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, message = BAD_TEXT_TENSORS[case]
    monkeypatch.setitem(
        __import__("tests.registry.gguf_bytes").registry.gguf_bytes.BLOCKS, 26, (1, 4)
    )
    with pytest.raises(GGUFError, match=message):
        check_text(header(tmp_path, text_keys(), tensors))


def test_other_sound_forms_of_the_text_model(tmp_path: Path) -> None:
    untied = [*text_tensors(), ("output.weight", (WIDTH, len(TOKENS)), Q4_0)]
    check_text(header(tmp_path, text_keys(), untied))
    fused: list[Tensor] = []
    for name, shape, kind in text_tensors():
        if ".attn_k." in name or ".attn_v." in name:
            continue
        if ".attn_q." in name:
            name, shape = name.replace("attn_q", "attn_qkv"), (*shape[:-1], 128)
        fused.append((name, shape, kind))
    check_text(header(tmp_path, text_keys(), fused))
    keys = with_key(text_keys(), Q + "rope.scaling.type", "str", "yarn")
    keys = with_key(keys, Q + "rope.scaling.factor", "f32", 4.0)
    keys = with_key(keys, Q + "rope.scaling.original_context_length", "u32", 32768)
    keys = with_key(keys, "general.tags", "[str]", ["anything", "else"])
    check_text(header(tmp_path, keys, text_tensors()))


def test_early_converters_mmproj(tmp_path: Path) -> None:
    """Up and down bear each other's names and no length is given; clip.cpp puts that right."""
    swapped: list[Tensor] = []
    for name, shape, kind in mmproj_tensors():
        if "ffn_up" in name:
            name = name.replace("ffn_up", "ffn_down")
        elif "ffn_down" in name:
            name = name.replace("ffn_down", "ffn_up")
        swapped.append((name, shape, kind))
    keys = with_key(mmproj_keys(), V + "feed_forward_length", "u32", 0)
    check_mmproj(header(tmp_path, keys, swapped))


def test_feed_forward_as_wide_as_the_encoder(tmp_path: Path) -> None:
    square = [
        (name, tuple(VIT_WIDTH if size == VIT_HIDDEN else size for size in shape), kind)
        for name, shape, kind in mmproj_tensors()
    ]
    keys = with_key(mmproj_keys(), V + "feed_forward_length", "u32", VIT_WIDTH)
    with pytest.raises(GGUFError, match="other than the width"):
        check_mmproj(header(tmp_path, keys, square))


def test_convolution_in_a_type_without_a_kernel(tmp_path: Path) -> None:
    conv = ("v.patch_embd.weight", (14, 14, 3, VIT_WIDTH), BF16)
    with pytest.raises(GGUFError, match="a kernel for it, got BF16"):
        check_mmproj(header(tmp_path, mmproj_keys(), edited(mmproj_tensors(), conv[0], conv)))


def test_an_epsilon_of_the_text_model_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = with_key(mmproj_keys(), V + "attention.layer_norm_epsilon", "f32", 1e-5)
    with caplog.at_level(logging.WARNING):
        check_mmproj(header(tmp_path, keys, mmproj_tensors()))
    assert "1e-05" in caplog.text


@pytest.mark.parametrize("which", [0, 1], ids=["text", "mmproj"])
def test_flipped_bits_raise_nothing_else(which: int, tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    path = pair[which]
    for _ in flips(path, read_header(path).data_offset, count=1500, seed=20252):
        began = time.perf_counter()
        try:
            check_pair(*map(read_header, pair))
        except RefusedError as error:
            assert error.hint
        assert time.perf_counter() - began < 2
    check_pair(*map(read_header, pair))


@pytest.mark.parametrize(("which", "attempts"), [("text", 200), ("mmproj", 600)])
def test_llama_cpp_survives_what_is_accepted(
    which: str, attempts: int, pair: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(pair, folder)
    module = "tests.registry.load_flipped"
    done = subprocess.run(
        [sys.executable, "-m", module, folder, which, str(attempts), "20253"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 10
