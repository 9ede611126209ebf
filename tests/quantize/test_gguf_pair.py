"""The pair as it lies on disk, read with gguf-py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from benchmarks.synthesize import GENERATION, TINY, synthesize
from miloco_edge.registry import resolve
from quantize import Manifest, quantize
from quantize.safetensors import read_header

TEXT_KEYS = """
general.architecture general.type general.sampling.top_p general.sampling.temp
general.sampling.penalty_repeat general.name general.size_label
qwen2vl.block_count qwen2vl.context_length qwen2vl.embedding_length qwen2vl.feed_forward_length
qwen2vl.attention.head_count qwen2vl.attention.head_count_kv qwen2vl.rope.dimension_sections
qwen2vl.rope.freq_base qwen2vl.attention.layer_norm_rms_epsilon
tokenizer.ggml.model tokenizer.ggml.pre tokenizer.ggml.tokens tokenizer.ggml.token_type
tokenizer.ggml.merges tokenizer.ggml.eos_token_id tokenizer.ggml.padding_token_id
tokenizer.ggml.bos_token_id tokenizer.ggml.add_bos_token tokenizer.ggml.add_eos_token
tokenizer.chat_template general.quantization_version general.file_type
"""

MMPROJ_KEYS = """
general.architecture general.type general.sampling.top_p general.sampling.temp
general.sampling.penalty_repeat general.name general.size_label
clip.has_vision_encoder clip.vision.projection_dim clip.vision.image_size clip.vision.patch_size
clip.vision.embedding_length clip.vision.feed_forward_length clip.vision.block_count
clip.vision.attention.head_count clip.vision.image_mean clip.vision.image_std clip.projector_type
clip.use_silu clip.vision.n_wa_pattern clip.vision.attention.layer_norm_epsilon
general.quantization_version general.file_type
"""

BLOCK = """
attn_k.bias attn_k.weight attn_norm.weight attn_output.weight attn_q.bias attn_q.weight
attn_v.bias attn_v.weight ffn_down.weight ffn_gate.weight ffn_norm.weight ffn_up.weight
"""

VISION_BLOCK = """
attn_k.bias attn_k.weight attn_out.bias attn_out.weight attn_q.bias attn_q.weight attn_v.bias
attn_v.weight ffn_down.bias ffn_down.weight ffn_gate.bias ffn_gate.weight ffn_up.bias
ffn_up.weight ln1.weight ln2.weight
"""


def read(folder: Path, made: Manifest) -> tuple[gguf.GGUFReader, gguf.GGUFReader]:
    text, mmproj = (gguf.GGUFReader(folder / output.file) for output in made.outputs)
    return text, mmproj


def keys(reader: gguf.GGUFReader) -> list[str]:
    return [key for key in reader.fields if not key.startswith("GGUF.")]


def data(reader: gguf.GGUFReader) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in reader.tensors}


def stored(folder: Path) -> dict[str, Any]:
    """The checkpoint's BF16 tensors as uint16, by name."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    return {
        t.name: np.frombuffer(raw[t.offset : t.offset + t.nbytes], "<u2").reshape(t.shape)
        for t in read_header(path)
    }


def widened(bits: Any) -> Any:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def test_keys_and_their_order(checkpoint: Path, tmp_path: Path) -> None:
    text, mmproj = read(tmp_path, quantize(checkpoint, tmp_path, recipe="bf16"))
    assert keys(text) == TEXT_KEYS.split()
    assert keys(mmproj) == MMPROJ_KEYS.split()

    def value(reader: gguf.GGUFReader, key: str) -> Any:
        return reader.fields[key].contents()

    assert value(text, "qwen2vl.rope.dimension_sections") == [16, 24, 24, 0]
    assert value(text, "general.size_label") == "2.2M"
    assert value(text, "general.file_type") == value(mmproj, "general.file_type") == 32
    assert value(text, "general.sampling.temp") == pytest.approx(GENERATION["temperature"])
    assert value(text, "general.sampling.penalty_repeat") == pytest.approx(1.05)
    assert value(mmproj, "clip.vision.image_size") == 560
    assert value(mmproj, "clip.vision.n_wa_pattern") == 2
    assert value(mmproj, "clip.vision.attention.layer_norm_epsilon") == pytest.approx(1e-6)


def test_the_vision_towers_epsilon_is_not_the_language_models(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", replace(TINY, rms_norm_eps=1e-5))
    text, mmproj = read(tmp_path, quantize(folder, tmp_path, recipe="bf16"))
    ours = text.fields["qwen2vl.attention.layer_norm_rms_epsilon"].contents()
    assert ours == pytest.approx(1e-5)
    theirs = mmproj.fields["clip.vision.attention.layer_norm_epsilon"].contents()
    assert theirs == pytest.approx(1e-6)


def test_tensors_and_their_order(checkpoint: Path, tmp_path: Path) -> None:
    text, mmproj = read(tmp_path, quantize(checkpoint, tmp_path, recipe="bf16"))
    assert [tensor.name for tensor in text.tensors] == [
        "output.weight", "output_norm.weight", "token_embd.weight",
        *(f"blk.{i}.{name}" for i in range(3) for name in BLOCK.split()),
    ]  # fmt: skip
    assert [tensor.name for tensor in mmproj.tensors] == [
        "mm.0.bias", "mm.0.weight", "mm.2.bias", "mm.2.weight",
        *(f"v.blk.{i}.{name}" for i in range(4) for name in VISION_BLOCK.split()),
        "v.patch_embd.weight", "v.patch_embd.weight.1", "v.post_ln.weight",
    ]  # fmt: skip
    assert all(tensor.data_offset % 32 == 0 for tensor in [*text.tensors, *mmproj.tensors])


def test_blocks_are_ordered_by_number_in_the_text_file_and_by_name_in_the_mmproj(
    tmp_path: Path,
) -> None:
    shape = replace(TINY, num_hidden_layers=11, vit_depth=12, fullatt_block_indexes=(3, 7, 11))
    made = quantize(synthesize(tmp_path / "deep", shape), tmp_path, dry_run=True)
    names = [tensor.name for tensor in made.tensors]
    blocks = [name.split(".")[1] for name in names if name.startswith("blk.")]
    assert list(dict.fromkeys(blocks)) == [str(i) for i in range(11)]
    vision = [name.split(".")[2] for name in names if name.startswith("v.blk.")]
    assert list(dict.fromkeys(vision)) == sorted(str(i) for i in range(12))


def test_weights_are_the_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    text, mmproj = (data(r) for r in read(tmp_path, quantize(checkpoint, tmp_path, recipe="bf16")))
    source = stored(checkpoint)

    def bits(array: Any) -> Any:
        return array.view(np.uint16).reshape(array.shape[0], -1)

    assert (bits(text["output.weight"]) == source["lm_head.weight"]).all()
    up = source["model.layers.2.mlp.up_proj.weight"]
    assert (bits(text["blk.2.ffn_up.weight"]) == up).all()
    norm = widened(source["model.layers.1.input_layernorm.weight"])
    assert (text["blk.1.attn_norm.weight"] == norm).all()
    qkv = source["visual.blocks.3.attn.qkv.weight"]
    for third, letter in enumerate("qkv"):
        rows = slice(256 * third, 256 * third + 256)
        assert (bits(mmproj[f"v.blk.3.attn_{letter}.weight"]) == qkv[rows]).all()
        bias = widened(source["visual.blocks.3.attn.qkv.bias"])[rows]
        assert (mmproj[f"v.blk.3.attn_{letter}.bias"] == bias).all()
    patch = widened(source["visual.patch_embed.proj.weight"])
    for plane, name in enumerate(("v.patch_embd.weight", "v.patch_embd.weight.1")):
        assert (mmproj[name] == patch[:, :, plane]).all()


@pytest.mark.parametrize("recipe", ["q8_0", "q4_0"])
def test_quantized_weights_are_near_the_checkpoints_and_the_manifest_knows_how_near(
    checkpoint: Path, tmp_path: Path, recipe: str
) -> None:
    made = quantize(checkpoint, tmp_path, recipe=recipe, mmproj_type=recipe)
    text, _ = read(tmp_path, made)
    tensor = next(t for t in text.tensors if t.name == "blk.0.ffn_gate.weight")
    got = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    want = widened(stored(checkpoint)["model.layers.0.mlp.gate_proj.weight"])
    report = next(t for t in made.tensors if t.name == tensor.name)
    measured = slice(0, 512 // 8)  # the first eighth of the only slab
    error = float(np.sqrt(np.mean((got - want)[measured] ** 2, dtype=np.float64)))
    assert report.rmse == pytest.approx(error, rel=1e-4)
    assert report.type == recipe.upper()
    assert 1e-6 < (report.nmse or 0) < 0.02
    exact = next(t for t in made.tensors if t.name == "output_norm.weight")
    assert (exact.type, exact.rmse, exact.nmse) == ("F32", 0.0, 0.0)


QUIRKS: list[dict[str, Any]] = [
    {"flat_config": False},
    {"shards": 3},
    {"shards": 7, "prefix": "model.language_model."},
    {"prefix": "language_model.model."},
    {"merges_as_pairs": True, "chat_template_where": "jinja"},
    {"chat_template_where": "json"},
]


@pytest.mark.parametrize("quirks", QUIRKS, ids=str)
def test_how_a_checkpoint_is_stored_does_not_change_a_byte(
    checkpoint: Path, tmp_path: Path, quirks: dict[str, Any]
) -> None:
    other = synthesize(tmp_path / "other" / checkpoint.name, TINY, **quirks)
    plain = quantize(checkpoint, tmp_path / "plain")
    quirky = quantize(other, tmp_path / "quirky")
    assert [o.sha256 for o in quirky.outputs] == [o.sha256 for o in plain.outputs]
    assert [(t.rmse, t.type) for t in quirky.tensors] == [(t.rmse, t.type) for t in plain.tensors]


def test_a_tied_checkpoint_has_no_output(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tied", TINY, tied=True)
    made = quantize(folder, tmp_path, recipe="q4_0")
    types = {tensor.name: tensor.type for tensor in made.tensors}
    assert "output.weight" not in types
    assert types["token_embd.weight"] == "Q6_K"


def test_head_dim_is_written_where_the_configuration_states_it(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", TINY, head_dim_in_config=True)
    text, _ = read(tmp_path, quantize(folder, tmp_path, recipe="bf16"))
    assert text.fields["qwen2vl.attention.key_length"].contents() == 128
    assert text.fields["qwen2vl.attention.value_length"].contents() == 128


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_other_source_types_are_converted(tmp_path: Path, dtype: Any) -> None:
    folder = synthesize(tmp_path / "other", TINY, dtype=dtype)
    text, _ = (data(r) for r in read(tmp_path, quantize(folder, tmp_path, recipe="f16")))
    shard = read_header(folder / "model.safetensors")
    norm = next(t for t in shard if t.name == "model.norm.weight")
    raw = (folder / "model.safetensors").read_bytes()[norm.offset : norm.offset + norm.nbytes]
    want = np.frombuffer(raw, "<f2" if dtype == "F16" else "<f4").astype(np.float32)
    assert (text["output_norm.weight"] == want).all()
    assert text["output.weight"].dtype == np.float16


def test_threads_do_not_change_a_byte(tmp_path: Path) -> None:
    # Rows enough for several slabs.
    folder = synthesize(tmp_path / "tall", replace(TINY, vocab_size=20_000))
    one = quantize(folder, tmp_path / "1", threads=1)
    many = quantize(folder, tmp_path / "5", threads=5)
    assert one.outputs == many.outputs
    assert one.tensors == many.tensors


def test_the_manifest_says_what_was_made_of_what(checkpoint: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    made = quantize(checkpoint, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mmproj-tiny-bf16.gguf", "tiny-q4_0.gguf", "tiny-q4_0.manifest.json",
    ]  # fmt: skip
    document = json.loads((tmp_path / "tiny-q4_0.manifest.json").read_text())
    assert document == json.loads(json.dumps(made.to_json()))
    assert list(document) == [
        "source", "recipe", "outputs", "tensors", "imatrix", "fit", "preprocessor", "sampling",
        "versions", "seconds", "peak_rss_bytes",
    ]  # fmt: skip
    for output in document["outputs"]:
        raw = (tmp_path / output["file"]).read_bytes()
        assert output["bytes"] == len(raw)
        assert output["sha256"] == hashlib.sha256(raw).hexdigest()
    weights = (checkpoint / "model.safetensors").read_bytes()
    assert document["source"]["files"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    config = (checkpoint / "config.json").read_bytes()
    assert document["source"]["files"]["config.json"] == hashlib.sha256(config).hexdigest()
    assert document["preprocessor"]["max_pixels"] == 4096 * 28 * 28
    assert document["preprocessor"]["tokens_per_second"] == 2
    assert document["preprocessor"]["fps"] is None
    assert document["preprocessor"]["video_max_pixels"] is None
    assert document["sampling"]["temperature"] == GENERATION["temperature"]
    assert steps[-1] == (len(weights), len(weights))
    assert steps == sorted(steps)


def test_pixel_limits_of_video_are_those_of_its_own_processor(tmp_path: Path) -> None:
    checkpoint = synthesize(tmp_path / "tiny", TINY)
    video = {"size": {"shortest_edge": 20 * 784, "longest_edge": 200 * 784}, "fps": 2}
    (checkpoint / "video_preprocessor_config.json").write_text(json.dumps(video))
    quantize(checkpoint, tmp_path / "pair", recipe="q8_0")
    files = resolve(tmp_path / "pair")
    assert files.preprocessor.video_pixels == (20 * 784, 200 * 784)
    assert files.preprocessor.image_pixels == (4 * 784, 4096 * 784)
    assert files.preprocessor.fps == 2


def test_a_dry_run_knows_the_sizes_and_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    dry = quantize(checkpoint, tmp_path / "dry", dry_run=True)
    made = quantize(checkpoint, tmp_path / "made")
    assert not (tmp_path / "dry").exists()
    assert [(o.file, o.bytes, o.bpw) for o in dry.outputs] == [
        (o.file, o.bytes, o.bpw) for o in made.outputs
    ]
    assert [(t.name, t.type, t.bytes) for t in dry.tensors] == [
        (t.name, t.type, t.bytes) for t in made.tensors
    ]
    assert {o.sha256 for o in dry.outputs} == {t.rmse for t in dry.tensors} == {None}


def test_an_f16_mmproj_warns(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quantize(checkpoint, tmp_path, mmproj_type="bf16", dry_run=True)
    assert not caplog.records
    quantize(checkpoint, tmp_path, mmproj_type="f16", dry_run=True)
    assert "overflows" in caplog.text
