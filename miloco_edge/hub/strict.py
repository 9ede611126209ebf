"""Tables of a configuration file as frozen dataclasses: unknown keys and wrong values are refused.

The fields of a dataclass, their types and defaults are the schema; its `__post_init__` raises
ValueError for values out of bounds. Every error names the file, the line, the field, what was
expected and what was got.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from miloco_edge.errors import ConfigError
from miloco_edge.hub import toml_lines
from miloco_edge.video.address import without_secrets

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the file, and where it is."""

    path: Path
    lines: dict[toml_lines.Path, int]
    values: Mapping[str, Any]
    place: tuple[str | int, ...] = ()

    def error(self, key: str | None, message: str, *, hint: str | None = None) -> ConfigError:
        """The error about one of its keys, or about the table."""
        place = self.place if key is None else (*self.place, key)
        field = ".".join(map(str, place)) or None
        return ConfigError(
            self.path, toml_lines.line_of(self.lines, place), field, message, hint=hint
        )

    def table(self, key: str) -> Table:
        """The table under a key; an empty one where there is none."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, f"expected a table, got {_shown(value)}")
        return Table(self.path, self.lines, value, (*self.place, key))

    def tables(self, key: str) -> dict[str, Table]:
        """The tables under a key, by their names."""
        outer = self.table(key)
        return {name: outer.table(name) for name in outer.values}

    def refuse_others(self, known: set[str]) -> None:
        """Raise for a key that is not known."""
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}?" if near else None
                if key in ("user", "username", "password", "token"):
                    hint = "logins come from secrets, never from this file: see docs/cameras.md"
                raise self.error(
                    key, f"expected one of {', '.join(sorted(known))}, got {key}", hint=hint
                )

    def read(
        self,
        kind: type[T],
        *,
        given: Mapping[str, Any] | None = None,
        readers: Mapping[str, Callable[[Any], Any]] | None = None,
        others: set[str] | None = None,
    ) -> T:
        """The table as a `kind`.

        `given` are fields that do not come from the file; `readers` turn a value into a field and
        raise ValueError where they cannot; `others` are keys that the caller reads itself.
        """
        given, readers, others = given or {}, readers or {}, others or set()
        hints = get_type_hints(kind)
        declared = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
        mine = [name for name in declared if name not in given and name not in others]
        self.refuse_others(set(mine) | others)
        made: dict[str, Any] = dict(given)
        for name in mine:
            if name not in self.values:
                field = declared[name]
                if field.default is MISSING and field.default_factory is MISSING:
                    raise self.error(None, f"expected {name}, got none")
                continue
            value = self.values[name]
            try:
                made[name] = (
                    readers[name](value) if name in readers else read_as(hints[name], value)
                )
            except ValueError as error:
                raise self.error(name, str(error)) from None
        try:
            return kind(**made)
        except ValueError as error:
            key, message = _own_words(str(error), kind.__name__)
            raise self.error(key, message) from None


def read_as(hint: Any, value: Any) -> Any:
    """`value` of the file as the type of a field. Raises ValueError that says what was expected."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        options = [arg for arg in args if arg is not type(None)]
        for option in options:
            try:
                return read_as(option, value)
            except ValueError as error:
                if len(options) == 1:
                    raise
                last = error
        raise last
    if origin is Literal:
        if value not in args or isinstance(value, bool) != isinstance(args[0], bool):
            raise ValueError(f"expected {' or '.join(map(repr, args))}, got {_shown(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, got {_shown(value)}")
        if args[-1] is Ellipsis:
            return tuple(read_as(args[0], item) for item in value)
        if len(value) != len(args):
            raise ValueError(f"expected a list of {len(args)}, got {_shown(value)}")
        return tuple(read_as(arg, item) for arg, item in zip(args, value, strict=True))
    if hint is Path and isinstance(value, str):
        try:
            return Path(value).expanduser()
        except RuntimeError:
            raise ValueError(f"expected a home folder for ~, got none for {value!r}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise ValueError(f"expected {_NAMES.get(hint, hint.__name__)}, got {_shown(value)}")


_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}


def _shown(value: Any) -> str:
    text = without_secrets(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _own_words(message: str, kind: str) -> tuple[str | None, str]:
    """The field and the rest of a `Kind.field: expected ...` message."""
    name, colon, rest = message.partition(": ")
    if colon and name.startswith(f"{kind}."):
        return name.removeprefix(f"{kind}."), rest
    return None, message
