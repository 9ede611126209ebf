"""Write a random Qwen2.5-VL checkpoint of any shape, in Hugging Face layout, without torch.

The tensors are random, everything around them is real: names, shapes, configuration files, a
byte-level BPE vocabulary with Qwen2's pre-tokenizer and Qwen2.5's special tokens. So a pair made
from it loads wherever the true model does, takes as long and as much memory, and says nothing
of sense. The tests use the small shapes, the benchmarks MiMo-VL-7B's.

    python -m benchmarks.synthesize OUT --shape mimo-vl-7b --vocabulary ggml-vocab-qwen2.gguf
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.tokenizer import (
    SPECIAL_TOKENS,
    ChatTemplateWhere,
    built_in_vocabulary,
    gguf_vocabulary,
    tokenizer,
    write_json,
    write_tokenizer_config,
)

DType = Literal["BF16", "F16", "F32"]
Prefix = Literal["model.", "model.language_model.", "language_model.model."]


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2.5-VL model, by the names that its config.json uses."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    vit_depth: int
    vit_hidden_size: int
    vit_intermediate_size: int
    vit_num_heads: int
    fullatt_block_indexes: tuple[int, ...]
    rope_theta: float = 1_000_000.0
    mrope_section: tuple[int, int, int] = (16, 24, 24)
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 32768
    window_size: int = 112
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2


TINY = Shape(
    num_hidden_layers=3, hidden_size=256, intermediate_size=512, num_attention_heads=2,
    num_key_value_heads=1, head_dim=128, vocab_size=768,
    vit_depth=4, vit_hidden_size=256, vit_intermediate_size=512, vit_num_heads=4,
    fullatt_block_indexes=(1, 3),
)  # fmt: skip
"""Small, with windowed and full attention; every row is a multiple of 256, legal for every type."""

MIMO_VL_7B = Shape(
    num_hidden_layers=36, hidden_size=4096, intermediate_size=11008, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128, vocab_size=151680,
    vit_depth=32, vit_hidden_size=1280, vit_intermediate_size=3456, vit_num_heads=16,
    fullatt_block_indexes=(7, 15, 23, 31),
    rope_theta=640_000.0, rms_norm_eps=1e-5, max_position_embeddings=128_000,
)  # fmt: skip
"""MiMo-VL-7B, and so Xiaomi-MiMo-VL-Miloco-7B: 7.62 + 0.68 thousand million weights."""

SHAPES = {"tiny": TINY, "mimo-vl-7b": MIMO_VL_7B}

GENERATION = {"do_sample": True, "temperature": 0.3, "top_p": 0.95, "repetition_penalty": 1.05}

SLAB = 1 << 22  # elements generated at a time


def synthesize(
    out: Path,
    shape: Shape,
    *,
    seed: int = 0,
    flat_config: bool = True,
    tied: bool = False,
    shards: int = 1,
    vocabulary: Path | None = None,
    chat_template_where: ChatTemplateWhere = "tokenizer_config",
    merges_as_pairs: bool = False,
    prefix: Prefix = "model.",
    dtype: DType = "BF16",
    head_dim_in_config: bool = False,
) -> Path:
    """Write a random checkpoint of `shape` into the folder `out` and return it.

    `flat_config` puts the language model's settings at the top of config.json (transformers 4),
    otherwise under `text_config` (transformers 5). `tied` leaves out lm_head. `shards` > 1 writes
    an index. `vocabulary` is a GGUF vocabulary file whose base tokens and merges are used instead
    of a few hundred built-in ones. `prefix` is how the language model's tensors are named; with
    any but "model.", the vision tower is named `model.visual.`.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokens, merges = built_in_vocabulary() if vocabulary is None else gguf_vocabulary(vocabulary)
    special = {token: len(tokens) + i for i, token in enumerate(SPECIAL_TOKENS)}
    if max(special.values()) >= shape.vocab_size:
        raise ValueError(f"expected at most {shape.vocab_size} tokens, got {max(special.values())}")
    write_json(out / "config.json", _config(shape, special, flat_config, tied, head_dim_in_config))
    write_json(out / "generation_config.json", _token_ids(special) | GENERATION)
    write_json(out / "preprocessor_config.json", _preprocessor(shape))
    write_json(out / "tokenizer.json", tokenizer(tokens, merges, special, merges_as_pairs))
    write_tokenizer_config(out, special, chat_template_where)
    _write_weights(out, _tensors(shape, tied, prefix), shards, dtype, seed)
    return out


def _config(
    shape: Shape, special: dict[str, int], flat: bool, tied: bool, head_dim: bool
) -> dict[str, Any]:
    sizes = asdict(shape)
    text = {
        name: sizes[name]
        for name in (
            "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads",
            "num_key_value_heads", "vocab_size", "rope_theta", "rms_norm_eps",
            "max_position_embeddings",
        )
    } | {
        "hidden_act": "silu",
        "rope_scaling": {"type": "mrope", "mrope_section": list(shape.mrope_section)},
        "use_sliding_window": False,
    }  # fmt: skip
    if head_dim:
        text["head_dim"] = shape.head_dim
    ids = _token_ids(special)
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "vision_start_token_id": special["<|vision_start|>"],
        "vision_end_token_id": special["<|vision_end|>"],
        "vision_token_id": special["<|vision_pad|>"],
        "image_token_id": special["<|image_pad|>"],
        "video_token_id": special["<|video_pad|>"],
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": shape.vit_depth,
            "hidden_act": "silu",
            "hidden_size": shape.vit_hidden_size,
            "intermediate_size": shape.vit_intermediate_size,
            "num_heads": shape.vit_num_heads,
            "in_chans": 3,
            "in_channels": 3,
            "out_hidden_size": shape.hidden_size,
            "patch_size": shape.patch_size,
            "spatial_patch_size": shape.patch_size,
            "spatial_merge_size": shape.spatial_merge_size,
            "temporal_patch_size": shape.temporal_patch_size,
            "window_size": shape.window_size,
            "fullatt_block_indexes": list(shape.fullatt_block_indexes),
            "tokens_per_second": 2,
        },
    }
    if flat:
        return config | text | ids
    return config | {
        "text_config": text | ids | {"model_type": "qwen2_5_vl_text", "tie_word_embeddings": tied}
    }


def _token_ids(special: dict[str, int]) -> dict[str, int]:
    return {
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|im_end|>"],
        "pad_token_id": special["<|endoftext|>"],
    }


def _preprocessor(shape: Shape) -> dict[str, Any]:
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "min_pixels": 4 * 28 * 28,
        "max_pixels": 4096 * 28 * 28,
        "patch_size": shape.patch_size,
        "temporal_patch_size": shape.temporal_patch_size,
        "merge_size": shape.spatial_merge_size,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    mean: float
    std: float

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))


def _tensors(shape: Shape, tied: bool, prefix: Prefix) -> Iterator[_Tensor]:
    """Yield every tensor of the checkpoint; the scales keep random activations near one."""
    vision, hidden = shape.vit_hidden_size, shape.hidden_size
    visual = "visual." if prefix == "model." else "model.visual."
    yield _weight(
        f"{visual}patch_embed.proj.weight",
        (vision, 3, shape.temporal_patch_size, shape.patch_size, shape.patch_size),
    )
    for i in range(shape.vit_depth):
        block = f"{visual}blocks.{i}."
        yield from (_norm(f"{block}norm{n}.weight", vision) for n in (1, 2))
        yield from _linear(f"{block}attn.qkv", 3 * vision, vision)
        yield from _linear(f"{block}attn.proj", vision, vision)
        yield from _linear(f"{block}mlp.gate_proj", shape.vit_intermediate_size, vision)
        yield from _linear(f"{block}mlp.up_proj", shape.vit_intermediate_size, vision)
        yield from _linear(f"{block}mlp.down_proj", vision, shape.vit_intermediate_size)
    merged = vision * shape.spatial_merge_size**2
    yield _norm(f"{visual}merger.ln_q.weight", vision)
    yield from _linear(f"{visual}merger.mlp.0", merged, merged)
    yield from _linear(f"{visual}merger.mlp.2", hidden, merged)

    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    # A tied embedding is the output too: at std 1 every token would predict itself.
    spread = hidden**-0.5 if tied else 1.0
    yield _Tensor(f"{prefix}embed_tokens.weight", (shape.vocab_size, hidden), 0.0, spread)
    for i in range(shape.num_hidden_layers):
        layer = f"{prefix}layers.{i}."
        yield _norm(f"{layer}input_layernorm.weight", hidden)
        yield _norm(f"{layer}post_attention_layernorm.weight", hidden)
        yield from _linear(f"{layer}self_attn.q_proj", queries, hidden)
        yield from _linear(f"{layer}self_attn.k_proj", keys, hidden)
        yield from _linear(f"{layer}self_attn.v_proj", keys, hidden)
        yield _weight(f"{layer}self_attn.o_proj.weight", (hidden, queries))
        yield _weight(f"{layer}mlp.gate_proj.weight", (shape.intermediate_size, hidden))
        yield _weight(f"{layer}mlp.up_proj.weight", (shape.intermediate_size, hidden))
        yield _weight(f"{layer}mlp.down_proj.weight", (hidden, shape.intermediate_size))
    yield _norm(f"{prefix}norm.weight", hidden)
    if not tied:
        head = "language_model." if prefix == "language_model.model." else ""
        yield _weight(f"{head}lm_head.weight", (shape.vocab_size, hidden))


def _weight(name: str, shape: tuple[int, ...]) -> _Tensor:
    return _Tensor(name, shape, 0.0, float(np.prod(shape[1:])) ** -0.5)


def _linear(name: str, rows: int, columns: int) -> Iterator[_Tensor]:
    yield _weight(f"{name}.weight", (rows, columns))
    yield _Tensor(f"{name}.bias", (rows,), 0.0, 0.02)


def _norm(name: str, size: int) -> _Tensor:
    return _Tensor(name, (size,), 1.0, 0.1)


def _write_weights(
    out: Path, tensors: Iterator[_Tensor], shards: int, dtype: DType, seed: int
) -> None:
    every = list(tensors)
    width = 4 if dtype == "F32" else 2
    total = sum(tensor.count for tensor in every)
    groups: list[list[_Tensor]] = [[] for _ in range(shards)]
    seen = 0
    for tensor in every:
        groups[min(seen * shards // total, shards - 1)].append(tensor)
        seen += tensor.count
    names = (
        ["model.safetensors"]
        if shards == 1
        else [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    )
    with ThreadPoolExecutor() as pool:
        for name, group in zip(names, groups, strict=True):
            group.sort(key=lambda tensor: tensor.name)
            with (out / name).open("wb") as file:
                file.write(_header(group, dtype, width))
                for tensor in group:
                    _write_tensor(file, tensor, dtype, seed, pool)
    if shards > 1:
        index = {
            tensor.name: name for name, group in zip(names, groups, strict=True) for tensor in group
        }
        write_json(
            out / "model.safetensors.index.json",
            {"metadata": {"total_size": total * width}, "weight_map": index},
        )


def _header(group: list[_Tensor], dtype: DType, width: int) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in group:
        end = offset + tensor.count * width
        entries[tensor.name] = {
            "dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end],
        }  # fmt: skip
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write_tensor(
    file: BinaryIO,
    tensor: _Tensor,
    dtype: DType,
    seed: int,
    pool: ThreadPoolExecutor,
) -> None:
    counts = [SLAB] * (tensor.count // SLAB)
    if tensor.count % SLAB:
        counts.append(tensor.count % SLAB)
    plain = tensor.name.replace("language_model.", "").removeprefix("model.")
    # Of the name, so that the weights are the same however they are named, ordered and sharded.
    seeds = np.random.SeedSequence([seed, crc32(plain.encode())]).spawn(len(counts))
    for start in range(0, len(counts), 4):  # a few slabs in flight, whatever the tensor
        part = slice(start, start + 4)
        slabs = pool.map(
            lambda seed, count: _random(tensor, dtype, seed, count), seeds[part], counts[part]
        )
        for slab in slabs:
            file.write(slab.data)


def _random(
    tensor: _Tensor, dtype: DType, seed: np.random.SeedSequence, count: int
) -> NDArray[Any]:
    values = np.random.Generator(np.random.SFC64(seed)).standard_normal(count, dtype=np.float32)
    values *= tensor.std
    values += tensor.mean
    if dtype == "BF16":
        bits = values.view(np.uint32)
        bits += 0x7FFF + ((bits >> 16) & 1)  # to nearest, ties to even
        bits >>= 16
        return bits.astype(np.uint16)
    return values.astype(np.float16) if dtype == "F16" else values


def main() -> None:
    """Write a checkpoint from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--vocabulary", type=Path, help="a GGUF vocabulary file")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, help="keep only the first so many text layers")
    parser.add_argument("--vit-layers", type=int, help="keep only the first so many of the ViT")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    if arguments.layers:
        shape = replace(shape, num_hidden_layers=arguments.layers)
    if arguments.vit_layers:
        full = tuple(i for i in shape.fullatt_block_indexes if i < arguments.vit_layers)
        shape = replace(shape, vit_depth=arguments.vit_layers, fullatt_block_indexes=full)
    synthesize(
        arguments.out, shape, seed=arguments.seed, shards=arguments.shards,
        vocabulary=arguments.vocabulary,
    )  # fmt: skip


if __name__ == "__main__":
    main()
