"""Which type each tensor gets: pure functions from a tensor and its file to a type.

The recipes here have the types of llama.cpp's tools: `bf16`, `f16` and `q8_0` those of the
converter, `q4_0` those of llama-quantize (src/llama-quant.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quantize.codec import Type, block_size
from quantize.errors import RecipeError
from quantize.names import File, Tensor


@dataclass(frozen=True)
class Contents:
    """What a recipe may know of the file that a tensor goes into."""

    file: File
    tensors: tuple[Tensor, ...]
    """All of it, in order: llama-quantize's mixtures count positions."""
    heads: int
    kv_heads: int
    has_imatrix: bool = False


Choice = Callable[[Tensor, Contents], Type]


@dataclass(frozen=True)
class Recipe:
    """A named choice of types."""

    name: str
    file_type: int
    """llama.cpp's enum llama_ftype, as general.file_type states it."""
    choose: Choice


def _uniform(type: Type) -> Choice:
    return lambda tensor, contents: type


def _q4_0(tensor: Tensor, contents: Contents) -> Type:
    """Q4_0 but for the output, or the embedding that doubles as it: Q6_K."""
    names = {other.name for other in contents.tensors}
    output = "output.weight" if "output.weight" in names else "token_embd.weight"
    return Type.Q6_K if tensor.name == output else Type.Q4_0


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("bf16", 32, _uniform(Type.BF16)),
        Recipe("f16", 1, _uniform(Type.F16)),
        Recipe("q8_0", 7, _uniform(Type.Q8_0)),
        Recipe("q4_0", 2, _q4_0),
    )
}
"""By the names that users type."""


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`, or raise RecipeError."""
    if name not in RECIPES:
        raise RecipeError(name, f"expected one of {', '.join(RECIPES)}", hint="choose one of these")
    return RECIPES[name]


def choose_types(recipe: Recipe, contents: Contents) -> list[tuple[Tensor, Type]]:
    """Return the file's tensors with their types, in order.

    A recipe is asked for the weights that llama.cpp allows to be quantized; the others are F32.
    A type whose blocks do not fit into the tensor's rows is replaced as llama-quantize does.
    """
    return [
        (tensor, _fitted(tensor, _type(recipe, tensor, contents))) for tensor in contents.tensors
    ]


def _type(recipe: Recipe, tensor: Tensor, contents: Contents) -> Type:
    if len(tensor.shape) < 2 or tensor.name.endswith("_norm.weight"):
        return Type.F32
    if ".patch_embd." in tensor.name:  # too small to matter; the converter makes it F16 with f16
        wanted = recipe.choose(tensor, contents)
        return wanted if wanted is Type.F16 else Type.F32
    return recipe.choose(tensor, contents)


_FALLBACKS = {
    Type.IQ3_XXS: Type.IQ4_NL, Type.IQ3_S: Type.IQ4_NL, Type.IQ4_XS: Type.IQ4_NL,
    Type.Q2_K: Type.Q4_0, Type.Q3_K: Type.Q4_0, Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
}  # fmt: skip


def _fitted(tensor: Tensor, type: Type) -> Type:
    for candidate in (type, _FALLBACKS.get(type, Type.F16)):
        if tensor.columns % block_size(candidate) == 0:
            return candidate
    return Type.F16
