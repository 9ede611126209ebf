"""A random pair of any shape, to measure a model that is not here.

Its files load, take as much memory and as long as the real ones, and say nothing of sense. They
are written at once, without a checkpoint before them: random blocks of a quantized type are random
weights already, so 7B take half a minute and 5.8 GB rather than 22 GB and a quarter of an hour.
Nothing of `quantize` is needed for that, and the runtime may not import it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from miloco_edge.measure.shapes import Shape
from miloco_edge.measure.vocabulary import SPECIAL, TEMPLATE, vocabulary

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_Q4_0_FILE, _BF16_FILE = 2, 32  # llama_ftype


def write_pair(
    folder: Path, shape: Shape, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write `text.gguf` and `mmproj.gguf`, of llama-quantize's Q4_0 types and BF16; the folder.

    `progress` gets the bytes written and their total. Files that are there are written anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = (
        (folder / "text.gguf", "qwen2vl", _describe_text, list(_text(shape))),
        (folder / "mmproj.gguf", "clip", _describe_vision, list(_vision(shape))),
    )
    total = sum(tensor.nbytes for *_, tensors in every for tensor in tensors)
    random, done = np.random.Generator(np.random.SFC64(seed)), 0
    for path, architecture, describe, tensors in every:
        part = path.with_suffix(".part")
        writer = gguf.GGUFWriter(part, architecture)
        describe(writer, shape)
        for tensor in tensors:
            writer.add_tensor_info(
                tensor.name, tensor.byte_shape, np.dtype(np.uint8), tensor.nbytes, tensor.type
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor.draw(random))
            done += tensor.nbytes
            if progress is not None:
                progress(done, total)
        writer.close()
        part.replace(path)
    return folder


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    """Rows first, as numpy has it."""
    type: Type
    std: float
    mean: float = 0.0

    @property
    def byte_shape(self) -> tuple[int, ...]:
        block, nbytes = gguf.GGML_QUANT_SIZES[self.type]
        return (*self.shape[:-1], self.shape[-1] // block * nbytes)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.byte_shape))

    def draw(self, random: np.random.Generator) -> Bytes:
        count = int(np.prod(self.shape))
        if self.type is Type.Q4_0:
            return _q4_0(random, count // 32, self.std)
        if self.type is Type.Q6_K:
            return _q6_k(random, count // 256, self.std)
        values = random.standard_normal(count, dtype=np.float32)
        values *= np.float32(self.std)
        values += np.float32(self.mean)
        if self.type is Type.BF16:
            return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        return values.view(np.uint8)


def _q4_0(random: np.random.Generator, blocks: int, std: float) -> Bytes:
    """Scale (f16), then 32 numbers q of 4 bits: weight = scale * (q - 8) (ggml-common.h).

    Half of the scales are negative, as uniform q have a mean of -0.5.
    """
    out = np.frombuffer(random.bytes(blocks * 18), np.uint8).reshape(blocks, 18).copy()
    _scales(random, out[:, :2], std / np.sqrt((16**2 - 1) / 12))
    return out.reshape(-1)


def _q6_k(random: np.random.Generator, blocks: int, std: float) -> Bytes:
    """256 numbers q of 6 bits, 16 scales (int8), a scale (f16): scale * scale * (q - 32)."""
    out = np.frombuffer(random.bytes(blocks * 210), np.uint8).reshape(blocks, 210).copy()
    out[:, 192:208] = 32
    _scales(random, out[:, 208:], std / 32 / np.sqrt((64**2 - 1) / 12))
    return out.reshape(-1)


def _scales(random: np.random.Generator, where: Bytes, scale: float) -> None:
    signs = random.integers(0, 2, len(where), dtype=np.int8) * 2 - 1
    where[:] = (signs * np.float16(scale)).astype(np.float16).view(np.uint8).reshape(-1, 2)


def _matrix(name: str, rows: int, columns: int, type: Type) -> _Tensor:
    return _Tensor(f"{name}.weight", (rows, columns), type, columns**-0.5)


def _norm(name: str, width: int) -> _Tensor:
    return _Tensor(f"{name}.weight", (width,), Type.F32, 0.1, 1.0)


def _bias(name: str, width: int) -> _Tensor:
    return _Tensor(f"{name}.bias", (width,), Type.F32, 0.02)


def _text(shape: Shape) -> Iterator[_Tensor]:
    """The language model's tensors, of llama-quantize's Q4_0 types."""
    width, kv = shape.width, shape.kv_width
    embedding = Type.Q6_K if shape.tied else Type.Q4_0
    yield _Tensor("token_embd.weight", (shape.tokens, width), embedding, 1.0)
    for layer in range(shape.layers):
        block = f"blk.{layer}.".__add__
        yield _norm(block("attn_norm"), width)
        for name, rows in (("attn_q", width), ("attn_k", kv), ("attn_v", kv)):
            yield _matrix(block(name), rows, width, Type.Q4_0)
            yield _bias(block(name), rows)
        yield _matrix(block("attn_output"), width, width, Type.Q4_0)
        yield _norm(block("ffn_norm"), width)
        yield _matrix(block("ffn_gate"), shape.ffn, width, Type.Q4_0)
        yield _matrix(block("ffn_up"), shape.ffn, width, Type.Q4_0)
        yield _matrix(block("ffn_down"), width, shape.ffn, Type.Q4_0)
    yield _norm("output_norm", width)
    if not shape.tied:
        yield _matrix("output", shape.tokens, width, Type.Q6_K)


def _vision(shape: Shape) -> Iterator[_Tensor]:
    """The ViT's and merger's tensors, in BF16."""
    width, merged = shape.vit_width, 4 * shape.vit_width
    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        yield _Tensor(name, (width, 3, 14, 14), Type.F32, (2 * 3 * 14 * 14) ** -0.5)
    for layer in range(shape.vit_layers):
        block = f"v.blk.{layer}.".__add__
        yield from (_norm(block(name), width) for name in ("ln1", "ln2"))
        for name, rows, columns in (
            ("attn_q", width, width), ("attn_k", width, width), ("attn_v", width, width),
            ("attn_out", width, width), ("ffn_gate", shape.vit_ffn, width),
            ("ffn_up", shape.vit_ffn, width), ("ffn_down", width, shape.vit_ffn),
        ):  # fmt: skip
            yield _matrix(block(name), rows, columns, Type.BF16)
            yield _bias(block(name), rows)
    yield _norm("v.post_ln", width)
    for name, rows in (("mm.0", merged), ("mm.2", shape.width)):
        yield _matrix(name, rows, merged, Type.BF16)
        yield _bias(name, rows)


def _describe_text(writer: gguf.GGUFWriter, shape: Shape) -> None:
    head = shape.width // shape.heads
    tokens, kinds, merges = vocabulary(shape.tokens)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("random weights")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    # 16, 24 and 24 pairs of the 64 that a head of 128 has (config.json, mrope_section).
    writer.add_rope_dimension_sections([head // 8, head * 3 // 16, head * 3 // 16, 0])
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index(SPECIAL[0]))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(_Q4_0_FILE)


def _describe_vision(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_name("random weights")
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(shape.width)
    writer.add_vision_image_size(560)
    writer.add_vision_patch_size(14)
    writer.add_vision_embedding_length(shape.vit_width)
    writer.add_vision_feed_forward_length(shape.vit_ffn)
    writer.add_vision_block_count(shape.vit_layers)
    writer.add_vision_head_count(shape.vit_heads)
    writer.add_vision_image_mean(_MEAN)
    writer.add_vision_image_std(_STD)
    writer.add_clip_projector_type("qwen2.5vl_merger")
    writer.add_vision_use_silu(True)
    writer.add_vision_n_wa_pattern(shape.full_attention)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(_BF16_FILE)
