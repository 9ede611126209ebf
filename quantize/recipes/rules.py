"""Recipes from TOML files: ordered rules from names to types.

    [text]
    mixture = "q4_k_m"            # or: default = "Q4_K"; what no rule takes
    [[text.rules]]                # the first rule that matches decides
    match = "blk.*.attn_v.weight" # a name as the GGUF has it; * and ? as in a shell
    layers = "0-3, 30-35"         # optional
    type = "Q6_K"

    [mmproj]                      # optional; BF16 without it
    default = "Q5_K"
    pad_ffn = 256                 # optional: widen the vision tower's FFN with zeros

A type whose blocks do not fit into a tensor's rows is replaced as llama-quantize does.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from quantize.codec import Type
from quantize.errors import NotFoundError, RecipeError
from quantize.names import Tensor
from quantize.recipes.mixtures import MIXTURES
from quantize.recipes.recipe import BF16_MMPROJ, Choice, Contents, Recipe

_PADDINGS = (1, 32, 64, 128, 256)


@dataclass(frozen=True)
class Rule:
    """Some weights by name, and their type."""

    where: str
    """What errors call it."""
    match: str
    layers: frozenset[int] | None
    type: Type

    def covers(self, tensor: Tensor) -> bool:
        """Whether it speaks of a weight."""
        in_layers = self.layers is None or tensor.layer in self.layers
        return in_layers and fnmatchcase(tensor.name, self.match)


@dataclass(frozen=True)
class Rules:
    """Ordered rules, and what holds for weights that no rule speaks of."""

    recipe: str
    rest: Choice | Type
    rules: tuple[Rule, ...]

    def __call__(self, contents: Contents) -> Mapping[str, Type]:
        """Return the type of every weight, by name.

        Raises RecipeError where a rule decides nothing: it is misspelt, or comes too late.
        """
        if isinstance(self.rest, Type):
            types = dict.fromkeys((tensor.name for tensor in contents.weights), self.rest)
        else:
            types = dict(self.rest(contents))
        decided: set[str] = set()
        for rule in self.rules:
            covered = {tensor.name for tensor in contents.weights if rule.covers(tensor)}
            if not covered - decided:
                found = f"{len(covered)} that earlier rules take" if covered else "none"
                raise RecipeError(
                    self.recipe,
                    f"{rule.where}: expected {rule.match!r} to match weights of the "
                    f"{contents.file} file, got {found}",
                    hint="the names are those of a dry run's tensors: --dry-run --json",
                )
            types |= dict.fromkeys(covered - decided, rule.type)
            decided |= covered
        return types


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; its name is the file's.

    Raises NotFoundError, or RecipeError that names the place.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(path, "expected a recipe here, found nothing") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(str(path), f"expected TOML, got {error}") from error
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", path.stem):
        raise RecipeError(str(path), "expected a name of letters, digits, '.', '_' and '-'")
    table = _Table(path.stem, "", document)
    text = table.table("text")
    mmproj = table.table("mmproj") if "mmproj" in document else None
    table.done()
    recipe = Recipe(
        name=path.stem,
        text=_rules(text),
        vision=_rules(mmproj) if mmproj else None,
        mmproj=None if mmproj else BF16_MMPROJ,
        pad_ffn=mmproj.choice("pad_ffn", _PADDINGS, 1) if mmproj else 1,
    )
    for part in (text, mmproj):
        if part:
            part.done()
    return recipe


def _rules(table: _Table) -> Rules:
    mixture, default = table.take("mixture", str, ""), table.take("default", str, "")
    if bool(mixture) == bool(default):
        raise table.error("expected either `mixture` or `default`")
    if mixture and mixture not in MIXTURES:
        raise table.error(f"mixture: expected one of {', '.join(MIXTURES)}, got {mixture!r}")
    rest = MIXTURES[mixture] if mixture else table.type("default", default)
    rules = []
    for number, entry in enumerate(table.take("rules", list, []), 1):
        inner = _Table(table.recipe, f"{table.where}.rules[{number}]", entry)
        match, layers = inner.take("match", str), inner.take("layers", str, "")
        type = inner.type("type", inner.take("type", str))
        inner.done()
        rules.append(Rule(inner.where, match, _layers(inner, layers), type))
    return Rules(table.recipe, rest, tuple(rules))


def _layers(table: _Table, text: str) -> frozenset[int] | None:
    """Read "0-3, 7"; None where nothing is said."""
    if not text:
        return None
    layers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise table.error(f'layers: expected like "0-3, 7", got {text!r:.60}')
        layers.update(range(first, last + 1))
    return frozenset(layers)


class _Table:
    """A table of the file, whose keys are taken one by one so that none is overlooked."""

    def __init__(self, recipe: str, where: str, values: Any) -> None:
        self.recipe = recipe
        self.where = where
        if not isinstance(values, dict):
            raise self.error(f"expected a table, got {values!r:.60}")
        self._left = dict(values)

    def error(self, message: str) -> RecipeError:
        return RecipeError(self.recipe, f"{self.where}: {message}" if self.where else message)

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        value = self._left.pop(key, default)
        if not isinstance(value, kind):
            raise self.error(f"{key}: expected {kind.__name__}, got {value!r:.60}")
        return value

    def type(self, key: str, name: str) -> Type:
        if name not in Type.__members__:
            raise self.error(f"{key}: expected one of {', '.join(Type.__members__)}, got {name!r}")
        return Type[name]

    def table(self, key: str) -> _Table:
        return _Table(self.recipe, f"{self.where}.{key}".lstrip("."), self._left.pop(key, None))

    def choice(self, key: str, allowed: tuple[int, ...], default: int) -> int:
        value: int = self.take(key, int, default)
        if value not in allowed:
            raise self.error(f"{key}: expected one of {', '.join(map(str, allowed))}, got {value}")
        return value

    def done(self) -> None:
        if self._left:
            raise self.error(f"expected no key {min(self._left)!r}")
