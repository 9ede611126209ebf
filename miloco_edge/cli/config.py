"""Defaults from a TOML file: one table a command, one key an option.

    # ~/.config/miloco-edge/config.toml, or the file that MILOCO_EDGE_CONFIG names
    [infer]
    model = "miloco-7b"
    visual-tokens = 512

A flag overrides the environment (MILOCO_EDGE_INFER_MODEL), which overrides this file. In both an
option has the name that it is typed by; what may be repeated is an array here, and one a line in
the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


def config_path() -> Path:
    """Where the file is looked for, on a Mac too."""
    if named := os.environ.get("MILOCO_EDGE_CONFIG"):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "miloco-edge" / "config.toml"


class _Lines(click.ParamType[Any]):
    """Values of a kind, one a line: texts have spaces in them, and names of files colons."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.name, self._kind = kind.name, kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse one."""
        return self._kind.convert(value, param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Take a variable apart."""
        return [line for line in rv.splitlines() if line.strip()]


def name_variables(command: click.Command, prefix: str) -> None:
    """Give the options of a command, and of its own commands, variables named as they are typed."""
    for name, option in _options(command).items():
        option.envvar = f"{prefix}_{name.upper()}"
        if option.multiple and not isinstance(option.type, _Lines):
            option.type = _Lines(option.type)
    for name, inner in commands_of(command).items():
        name_variables(inner, f"{prefix}_{name.upper()}")


def read_config(path: Path) -> dict[str, Any]:
    """The file's tables; empty where there is no file.

    Raises click.UsageError for what is not TOML or not a table a command.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if "MILOCO_EDGE_CONFIG" in os.environ:
            raise
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: expected TOML, got {error}") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise click.UsageError(
                f"{path}: expected a table for a command, got {name} = {table!r}"
            )
    return tables


def defaults(path: Path, command: click.Command, table: dict[str, Any]) -> dict[str, Any]:
    """The table of a command by the names that click knows.

    Raises click.UsageError for an option that the command does not have.
    """
    options, commands = _options(command), commands_of(command)
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in options:
            one_of_many = options[name].multiple and not isinstance(value, list)
            found[str(options[name].name)] = [value] if one_of_many else value
        elif key in commands and isinstance(value, dict):
            found[key] = defaults(path, commands[key], value)
        else:
            raise click.UsageError(
                f"{path}: [{command.name}] expected an option of the command, got {key}"
            )
    return found


def _options(command: click.Command) -> dict[str, click.Option]:
    """Options by the long name that they are typed by."""
    return {
        long.removeprefix("--").replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for long in [next(name for name in option.opts if name.startswith("--"))]
    }


def commands_of(command: click.Command) -> Mapping[str, click.Command]:
    """The commands of a group, and of `bench`, which is one and does something itself."""
    found: Mapping[str, click.Command] = getattr(command, "commands", {})
    return found
