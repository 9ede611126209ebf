"""Writes GGUF files byte by byte, sound or not, for the tests of the header check.

It shares no code with what it tests, nor with gguf-py.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

KINDS = {
    "u8": (0, "<B"), "i8": (1, "<b"), "u16": (2, "<H"), "i16": (3, "<h"), "u32": (4, "<I"),
    "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<B"), "u64": (10, "<Q"), "i64": (11, "<q"),
    "f64": (12, "<d"),
}  # fmt: skip
F32, F16, Q4_0, Q8_0, I32, BF16 = 0, 1, 2, 8, 26, 30
BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34), I32: (1, 4), BF16: (1, 2)}

Key = tuple[str, str, Any]
Tensor = tuple[str, tuple[int, ...], int]


def string(text: str | bytes) -> bytes:
    """A GGUF string."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def value(kind: str, content: Any) -> bytes:
    """A typed GGUF value: u32, str, [f32], [str]."""
    if kind == "str":
        return struct.pack("<I", 8) + string(content)
    if kind == "[str]":
        return struct.pack("<IIQ", 9, 8, len(content)) + b"".join(map(string, content))
    if kind.startswith("["):
        number, code = KINDS[kind[1:-1]]
        items = b"".join(struct.pack(code, item) for item in content)
        return struct.pack("<IIQ", 9, number, len(content)) + items
    number, code = KINDS[kind]
    return struct.pack("<I", number) + struct.pack(code, content)


def nbytes(shape: Sequence[int], kind: int) -> int:
    """Bytes of a tensor."""
    block, size = BLOCKS[kind]
    return prod(shape) // block * size


def padded(size: int, alignment: int = 32) -> int:
    """`size` rounded up to the alignment."""
    return -(-size // alignment) * alignment


def tensor_info(name: str | bytes, shape: Sequence[int], kind: int, offset: int) -> bytes:
    """One entry of the list of tensors."""
    head = string(name) + struct.pack("<I", len(shape))
    return head + struct.pack(f"<{len(shape)}QIQ", *shape, kind, offset)


def gguf(keys: Sequence[Key], tensors: Sequence[Tensor] = (), alignment: int = 32) -> bytes:
    """A sound file with zeros for weights."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(string(key) + value(kind, content) for key, kind, content in keys)
    offset = 0
    for name, shape, kind in tensors:
        head += tensor_info(name, shape, kind, offset)
        offset += padded(nbytes(shape, kind), alignment)
    return head + bytes(padded(len(head), alignment) - len(head)) + bytes(offset)


WIDTH, HEADS, KV_HEADS, HIDDEN, LAYERS = 64, 2, 1, 96, 2
VIT_WIDTH, VIT_HEADS, VIT_HIDDEN, VIT_LAYERS = 32, 2, 48, 2
TOKENS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "a",
    "b",
    "ab",
    "\u0120",
]


def text_keys() -> list[Key]:
    """The metadata of a tiny text model."""
    q = "qwen2vl."
    return [
        ("general.architecture", "str", "qwen2vl"),
        ("general.name", "str", "Tiny"),
        (q + "block_count", "u32", LAYERS),
        (q + "context_length", "u32", 512),
        (q + "embedding_length", "u32", WIDTH),
        (q + "feed_forward_length", "u32", HIDDEN),
        (q + "attention.head_count", "u32", HEADS),
        (q + "attention.head_count_kv", "u32", KV_HEADS),
        (q + "rope.dimension_sections", "[i32]", [4, 6, 6, 0]),
        (q + "rope.freq_base", "f32", 1e6),
        (q + "attention.layer_norm_rms_epsilon", "f32", 1e-6),
        ("general.file_type", "u32", 2),
        ("tokenizer.ggml.model", "str", "gpt2"),
        ("tokenizer.ggml.pre", "str", "qwen2"),
        ("tokenizer.ggml.tokens", "[str]", TOKENS),
        ("tokenizer.ggml.token_type", "[i32]", [3, 3, 3, 3, 1, 1, 1, 1]),
        ("tokenizer.ggml.merges", "[str]", ["a b"]),
        ("tokenizer.ggml.eos_token_id", "u32", 1),
        ("tokenizer.ggml.add_bos_token", "bool", 0),
        ("tokenizer.chat_template", "str", "{{ messages }}"),
    ]


def text_tensors() -> list[Tensor]:
    """Its tensors: tied, Q4_0 matrices, F32 vectors."""
    tensors: list[Tensor] = [
        ("output_norm.weight", (WIDTH,), F32),
        ("token_embd.weight", (WIDTH, len(TOKENS)), Q4_0),
    ]
    kv = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_q", (WIDTH, WIDTH)), ("attn_k", (WIDTH, kv)), ("attn_v", (WIDTH, kv)),
        ):  # fmt: skip
            tensors.append((f"blk.{layer}.{name}.weight", shape, Q4_0))
            tensors.append((f"blk.{layer}.{name}.bias", shape[1:], F32))
        for name, shape in (
            ("attn_output", (WIDTH, WIDTH)), ("ffn_gate", (WIDTH, HIDDEN)),
            ("ffn_up", (WIDTH, HIDDEN)), ("ffn_down", (HIDDEN, WIDTH)),
        ):  # fmt: skip
            tensors.append((f"blk.{layer}.{name}.weight", shape, Q4_0))
        for name in ("attn_norm", "ffn_norm"):
            tensors.append((f"blk.{layer}.{name}.weight", (WIDTH,), F32))
    return tensors


def mmproj_keys() -> list[Key]:
    """The metadata of its vision encoder."""
    v = "clip.vision."
    return [
        ("general.architecture", "str", "clip"),
        ("general.type", "str", "mmproj"),
        ("general.file_type", "u32", 7),
        ("clip.has_vision_encoder", "bool", 1),
        (v + "projection_dim", "u32", WIDTH),
        (v + "image_size", "u32", 560),
        (v + "patch_size", "u32", 14),
        (v + "embedding_length", "u32", VIT_WIDTH),
        (v + "feed_forward_length", "u32", VIT_HIDDEN),
        (v + "block_count", "u32", VIT_LAYERS),
        (v + "attention.head_count", "u32", VIT_HEADS),
        (v + "image_mean", "[f32]", [0.48145466, 0.4578275, 0.40821073]),
        (v + "image_std", "[f32]", [0.26862954, 0.26130258, 0.27577711]),
        ("clip.projector_type", "str", "qwen2.5vl_merger"),
        ("clip.use_silu", "bool", 1),
        (v + "n_wa_pattern", "u32", 2),
        (v + "attention.layer_norm_epsilon", "f32", 1e-6),
    ]


def mmproj_tensors() -> list[Tensor]:
    """Its tensors."""
    w, merged = VIT_WIDTH, VIT_WIDTH * 4
    tensors: list[Tensor] = [
        ("v.patch_embd.weight", (14, 14, 3, w), F32),
        ("v.patch_embd.weight.1", (14, 14, 3, w), F32),
        ("v.post_ln.weight", (w,), F32),
        ("mm.0.weight", (merged, merged), Q8_0), ("mm.0.bias", (merged,), F32),
        ("mm.2.weight", (merged, WIDTH), Q8_0), ("mm.2.bias", (WIDTH,), F32),
    ]  # fmt: skip
    for layer in range(VIT_LAYERS):
        block = f"v.blk.{layer}."
        for name, shape in (
            ("attn_q", (w, w)), ("attn_k", (w, w)), ("attn_v", (w, w)), ("attn_out", (w, w)),
            ("ffn_gate", (w, VIT_HIDDEN)), ("ffn_up", (w, VIT_HIDDEN)),
            ("ffn_down", (VIT_HIDDEN, w)),
        ):  # fmt: skip
            tensors.append((f"{block}{name}.weight", shape, F16))
            tensors.append((f"{block}{name}.bias", shape[1:], F32))
        tensors += [(f"{block}{name}.weight", (w,), F32) for name in ("ln1", "ln2")]
    return tensors


def with_key(keys: Sequence[Key], name: str, kind: str, content: Any) -> list[Key]:
    """`keys` with one replaced, or added at the end."""
    kept = [(name, kind, content) if key[0] == name else key for key in keys]
    return kept if any(key[0] == name for key in keys) else [*kept, (name, kind, content)]


def without_key(keys: Sequence[Key], name: str) -> list[Key]:
    """`keys` with one left out."""
    return [key for key in keys if key[0] != name]


def flips(path: Path, end: int, count: int, seed: int) -> Iterator[None]:
    """Flip one to eight random bits of the first `end` bytes of a file, `count` times over.

    The file is as it was after each.
    """
    dice = random.Random(seed)
    sound = path.read_bytes()[:end]
    with path.open("r+b", buffering=0) as file:
        for _ in range(count):
            flipped = bytearray(sound)
            for _ in range(dice.choice((1, 1, 2, 8))):
                bit = dice.randrange(end * 8)
                flipped[bit // 8] ^= 1 << bit % 8
            file.seek(0)
            file.write(flipped)
            yield
        file.seek(0)
        file.write(sound)


def write_pair(folder: Path, name: str = "tiny-Q4_0") -> tuple[Path, Path]:
    """A sound pair of files in `folder`: (text, mmproj)."""
    folder.mkdir(parents=True, exist_ok=True)
    text, mmproj = folder / f"{name}.gguf", folder / f"mmproj-{name}.gguf"
    text.write_bytes(gguf(text_keys(), text_tensors()))
    mmproj.write_bytes(gguf(mmproj_keys(), mmproj_tensors()))
    return text, mmproj
