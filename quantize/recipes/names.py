"""Recipes by the names that users type."""

from __future__ import annotations

from pathlib import Path

from quantize.codec import Type
from quantize.errors import RecipeError
from quantize.recipes.mixtures import MIXTURES, recipe_of, uniform
from quantize.recipes.recipe import Recipe
from quantize.recipes.rules import read_recipe

_UNIFORM = {
    recipe.name: recipe
    for recipe in (
        uniform("bf16", 32, Type.BF16),
        uniform("f16", 1, Type.F16, convolution=Type.F16),
    )
}
_OURS = {path.stem: path for path in sorted((Path(__file__).parent / "edge").glob("*.toml"))}
"""Files of the format that users write too, each choice with its reason."""

NAMES = (*_UNIFORM, *MIXTURES, *_OURS)


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`, or the one in the file `name` if it ends in .toml.

    Raises RecipeError, or NotFoundError for a file that is not there.
    """
    if name in _UNIFORM:
        return _UNIFORM[name]
    if name in MIXTURES:
        return recipe_of(MIXTURES[name])
    if name in _OURS:
        return read_recipe(_OURS[name])
    if not name.endswith(".toml"):
        raise RecipeError(
            name, f"expected one of {', '.join(NAMES)}, or a .toml file", hint="choose one of these"
        )
    recipe = read_recipe(Path(name))
    if recipe.name in NAMES:
        raise RecipeError(name, f"expected a name of its own, got {recipe.name}")
    return recipe


def find_mmproj_recipe(name: str | None, text: Recipe) -> Recipe:
    """Return the recipe of the mmproj: `name`'s, or the one that goes with `text`.

    Raises RecipeError where it speaks of the language model alone, and as find_recipe does.
    """
    wanted = name or text.mmproj
    recipe = text if wanted is None else find_recipe(wanted)
    if recipe.vision is None:
        raise RecipeError(
            recipe.name,
            "expected a section [mmproj], got none",
            hint="choose another --mmproj-type",
        )
    return recipe
