"""Recipes: which type each tensor of a pair gets."""

from quantize.recipes.names import NAMES, find_mmproj_recipe, find_recipe
from quantize.recipes.recipe import Choice, Contents, Recipe, choose_types, file_type

__all__ = [
    "NAMES",
    "Choice",
    "Contents",
    "Recipe",
    "choose_types",
    "file_type",
    "find_mmproj_recipe",
    "find_recipe",
]
