"""From the names and shapes of a Qwen2.5-VL checkpoint to those of its GGUF pair.

The mapping is the reference converter's (llama.cpp, conversion/qwenvl.py, gguf-py's
tensor_mapping.py). Shapes follow from the configuration, so that a tensor of another shape is
refused before anything is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from quantize.dimensions import TextDimensions, VisionDimensions

File = Literal["text", "mmproj"]


@dataclass(frozen=True)
class Tensor:
    """A tensor of an output file, and which part of which source tensor it is made of."""

    name: str
    shape: tuple[int, ...]
    """Outermost first; the last is the length of a row."""
    source: str
    source_shape: tuple[int, ...]
    first_row: int = 0
    """Where its rows start along the source's outermost dimension."""
    plane: int | None = None
    """For the patch convolution: which index of the third dimension (the temporal one)."""
    padding: tuple[int, int] = (0, 0)
    """Rows below and columns to the right that are zero and not in the source."""

    @property
    def count(self) -> int:
        """Weights in all."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Weights in a row."""
        return self.shape[-1]

    @property
    def unpadded(self) -> tuple[int, ...]:
        """Shape of what comes from the source."""
        rows, columns = self.padding
        first, *rest = self.shape
        return (first - rows, *rest[:-1], rest[-1] - columns) if rest else (first - rows,)

    @property
    def layer(self) -> int | None:
        """The block that it belongs to, if any."""
        found = re.search(r"(?:^|\.)blk\.(\d+)\.", self.name)
        return int(found[1]) if found else None


def text_tensors(sizes: TextDimensions, tied: bool) -> list[Tensor]:
    """Return the text file's tensors in llama-quantize's order."""
    return sorted(_text(sizes, tied), key=_llama_quantize_order)


def mmproj_tensors(sizes: VisionDimensions) -> list[Tensor]:
    """Return the mmproj's tensors in llama-quantize's order."""
    return sorted(_mmproj(sizes), key=_llama_quantize_order)


def _llama_quantize_order(tensor: Tensor) -> tuple[int, str]:
    """Order by block, then name; `v.blk.N` does not count as a block (llama-model-loader.h)."""
    block = re.match(r"blk\.(\d+)\.", tensor.name)
    return int(block[1]) if block else -1, tensor.name


def _text(sizes: TextDimensions, tied: bool) -> Iterator[Tensor]:
    hidden, ffn = sizes.hidden, sizes.ffn
    queries, keys = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    yield _whole("token_embd.weight", "model.embed_tokens.weight", sizes.vocabulary, hidden)
    yield _whole("output_norm.weight", "model.norm.weight", hidden)
    if not tied:
        yield _whole("output.weight", "lm_head.weight", sizes.vocabulary, hidden)
    for i in range(sizes.layers):
        to, of = f"blk.{i}.", f"model.layers.{i}."
        yield _whole(f"{to}attn_norm.weight", f"{of}input_layernorm.weight", hidden)
        yield _whole(f"{to}ffn_norm.weight", f"{of}post_attention_layernorm.weight", hidden)
        for letter, rows in (("q", queries), ("k", keys), ("v", keys)):
            target, source = f"{to}attn_{letter}", f"{of}self_attn.{letter}_proj"
            yield _whole(f"{target}.weight", f"{source}.weight", rows, hidden)
            yield _whole(f"{target}.bias", f"{source}.bias", rows)
        yield _whole(f"{to}attn_output.weight", f"{of}self_attn.o_proj.weight", hidden, queries)
        yield _whole(f"{to}ffn_gate.weight", f"{of}mlp.gate_proj.weight", ffn, hidden)
        yield _whole(f"{to}ffn_up.weight", f"{of}mlp.up_proj.weight", ffn, hidden)
        yield _whole(f"{to}ffn_down.weight", f"{of}mlp.down_proj.weight", hidden, ffn)


def _mmproj(sizes: VisionDimensions) -> Iterator[Tensor]:
    hidden, ffn, merged = sizes.hidden, sizes.ffn, sizes.hidden * 4
    pad = sizes.padded_ffn - ffn
    patch = (hidden, 3, 2, sizes.patch, sizes.patch)
    for plane, suffix in enumerate(("weight", "weight.1")):  # ggml has no 3-D convolution here
        yield Tensor(
            f"v.patch_embd.{suffix}", (*patch[:2], *patch[3:]), "visual.patch_embed.proj.weight",
            patch, plane=plane,
        )  # fmt: skip
    yield _whole("v.post_ln.weight", "visual.merger.ln_q.weight", hidden)
    yield from _linear("mm.0", "visual.merger.mlp.0", merged, merged)
    yield from _linear("mm.2", "visual.merger.mlp.2", sizes.projection, merged)
    for i in range(sizes.layers):
        to, of = f"v.blk.{i}.", f"visual.blocks.{i}."
        yield _whole(f"{to}ln1.weight", f"{of}norm1.weight", hidden)
        yield _whole(f"{to}ln2.weight", f"{of}norm2.weight", hidden)
        qkv = f"{of}attn.qkv"
        for third, letter in enumerate("qkv"):
            target, row = f"{to}attn_{letter}", third * hidden
            yield Tensor(
                f"{target}.weight", (hidden, hidden), f"{qkv}.weight", (3 * hidden, hidden), row
            )
            yield Tensor(f"{target}.bias", (hidden,), f"{qkv}.bias", (3 * hidden,), row)
        yield from _linear(f"{to}attn_out", f"{of}attn.proj", hidden, hidden)
        yield from _linear(f"{to}ffn_gate", f"{of}mlp.gate_proj", ffn, hidden, pad_rows=pad)
        yield from _linear(f"{to}ffn_up", f"{of}mlp.up_proj", ffn, hidden, pad_rows=pad)
        yield from _linear(f"{to}ffn_down", f"{of}mlp.down_proj", hidden, ffn, pad_columns=pad)


def _whole(name: str, source: str, *shape: int) -> Tensor:
    return Tensor(name, shape, source, shape)


def _linear(
    name: str, source: str, rows: int, columns: int, *, pad_rows: int = 0, pad_columns: int = 0
) -> Iterator[Tensor]:
    """A matrix and its bias; an input or output that is padded is zero, and adds nothing."""
    yield Tensor(
        f"{name}.weight", (rows + pad_rows, columns + pad_columns), f"{source}.weight",
        (rows, columns), padding=(pad_rows, pad_columns),
    )  # fmt: skip
    yield Tensor(
        f"{name}.bias", (rows + pad_rows,), f"{source}.bias", (rows,), padding=(pad_rows, 0)
    )
