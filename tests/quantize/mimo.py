"""The tensors of MiMo-VL-7B, by its sizes alone."""

from __future__ import annotations

from benchmarks.synthesize import MIMO_VL_7B as SHAPE
from quantize.codec import Type, row_bytes
from quantize.dimensions import TextDimensions, VisionDimensions
from quantize.names import Tensor, mmproj_tensors, text_tensors
from quantize.recipes import Contents, choose_types, find_recipe

TEXT = TextDimensions(
    SHAPE.num_hidden_layers, SHAPE.hidden_size, SHAPE.intermediate_size,
    SHAPE.num_attention_heads, SHAPE.num_key_value_heads, SHAPE.head_dim, SHAPE.vocab_size,
)  # fmt: skip


def vision(ffn: int, pad_ffn: int = 1) -> VisionDimensions:
    """MiMo-VL's vision tower has an FFN of 3456, Qwen2.5-VL's of 3420."""
    return VisionDimensions(
        SHAPE.vit_depth, SHAPE.vit_hidden_size, ffn, SHAPE.vit_num_heads, SHAPE.patch_size,
        SHAPE.hidden_size, 8, pad_ffn,
    )  # fmt: skip


def text_types(
    recipe: str, *, has_imatrix: bool = False, tied: bool = False
) -> list[tuple[Tensor, Type]]:
    tensors = tuple(text_tensors(TEXT, tied=tied))
    groups = TEXT.heads // TEXT.kv_heads
    contents = Contents("text", tensors, TEXT.layers, groups, has_imatrix)
    return choose_types(find_recipe(recipe), contents)


def vision_types(
    recipe: str, ffn: int = SHAPE.vit_intermediate_size, *, has_imatrix: bool = False
) -> list[tuple[Tensor, Type]]:
    found = find_recipe(recipe)
    tensors = tuple(mmproj_tensors(vision(ffn, found.pad_ffn)))
    return choose_types(found, Contents("mmproj", tensors, has_imatrix=has_imatrix))


def nbytes(types: list[tuple[Tensor, Type]]) -> int:
    return sum(
        tensor.count // tensor.columns * row_bytes(type, tensor.columns) for tensor, type in types
    )
