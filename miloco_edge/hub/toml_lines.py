"""At which line of a TOML file each key stands. The grammar is tomllib's own."""

from __future__ import annotations

import tomllib
from typing import Any

Path = tuple[str | int, ...]
"""Keys from the top down; a number counts the tables of an array."""


def key_lines(text: str) -> dict[Path, int]:
    """For every key and table header of a sound TOML document, its line, from 1.

    The document is cut into statements: as many lines as tomllib needs to accept them alone.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    statement, begun = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        begun = begun if statement else number
        statement += line + "\n"
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = _header(parsed, counts)
            lines[table] = begun
            if isinstance(table[-1], int):
                lines.setdefault(table[:-1], begun)
        else:
            for path in _leaves(parsed):
                for depth in range(1, len(path) + 1):
                    lines.setdefault(table + path[:depth], begun)
        statement = ""
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of a key, or of the innermost table around it that has one."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def _header(parsed: dict[str, Any], counts: dict[Path, int]) -> Path:
    """The path of `[a.b]`, or of `[[a.b]]`, which counts; arrays above it are at their newest."""
    path: Path = ()
    node: Any = parsed
    while isinstance(node, dict) and node:
        key, node = next(iter(node.items()))
        path += (key,)
        if isinstance(node, list):
            counts[path] = counts.get(path, -1) + 1
            return (*path, counts[path])
        if path in counts:
            path += (counts[path],)
    return path


def _leaves(node: dict[str, Any]) -> list[Path]:
    return [
        (key, *rest)
        for key, value in node.items()
        for rest in (_leaves(value) if isinstance(value, dict) and value else [()])
    ]
