from __future__ import annotations

import pytest

from quantize.codec import Type
from quantize.errors import RecipeError
from quantize.names import Tensor
from quantize.recipes import RECIPES, Contents, choose_types, find_recipe


def tensor(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, name, shape)


TEXT = (
    tensor("output.weight", 768, 256),
    tensor("output_norm.weight", 256),
    tensor("token_embd.weight", 768, 256),
    tensor("blk.0.attn_q.bias", 256),
    tensor("blk.0.attn_q.weight", 256, 256),
    tensor("blk.0.ffn_down.weight", 256, 480),
)
VISION = (
    tensor("mm.0.weight", 1024, 1024),
    tensor("v.blk.0.ffn_down.weight", 256, 420),
    tensor("v.blk.0.ln1.weight", 256),
    tensor("v.patch_embd.weight", 256, 3, 14, 14),
    tensor("v.patch_embd.weight.1", 256, 3, 14, 14),
)


def types(recipe: str, tensors: tuple[Tensor, ...], file: str) -> list[str]:
    contents = Contents("text" if file == "text" else "mmproj", tensors, 2, 1)
    return [type.name for _, type in choose_types(RECIPES[recipe], contents)]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("bf16", ["BF16", "F32", "BF16", "F32", "BF16", "BF16"]),
        ("f16", ["F16", "F32", "F16", "F32", "F16", "F16"]),
        ("q8_0", ["Q8_0", "F32", "Q8_0", "F32", "Q8_0", "Q8_0"]),
        ("q4_0", ["Q6_K", "F32", "Q4_0", "F32", "Q4_0", "Q4_0"]),
    ],
)
def test_types_of_the_text_file(recipe: str, expected: list[str]) -> None:
    assert types(recipe, TEXT, "text") == expected


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("bf16", ["BF16", "BF16", "F32", "F32", "F32"]),
        ("f16", ["F16", "F16", "F32", "F16", "F16"]),
        ("q8_0", ["Q8_0", "F16", "F32", "F32", "F32"]),
        ("q4_0", ["Q4_0", "F16", "F32", "F32", "F32"]),
    ],
)
def test_types_of_the_mmproj(recipe: str, expected: list[str]) -> None:
    assert types(recipe, VISION, "mmproj") == expected


def test_an_embedding_that_doubles_as_the_output_gets_the_outputs_type() -> None:
    assert types("q4_0", TEXT[1:], "text")[1] == "Q6_K"


@pytest.mark.parametrize(
    ("columns", "expected"), [(512, Type.Q6_K), (480, Type.Q8_0), (420, Type.F16)]
)
def test_a_type_that_does_not_fit_falls_back_as_llama_quantize_does(
    columns: int, expected: Type
) -> None:
    output = (tensor("output.weight", 8, columns),)
    ((_, type),) = choose_types(RECIPES["q4_0"], Contents("text", output, 2, 1))
    assert type is expected


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="bf16, f16, q8_0, q4_0"):
        find_recipe("q3")
