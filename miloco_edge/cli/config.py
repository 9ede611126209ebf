"""Defaults from a TOML file: one table a command, one key an option.

    # ~/.config/miloco-edge/config.toml, or the file that MILOCO_EDGE_CONFIG names
    [infer]
    model = "miloco-7b"
    visual-tokens = 512

A flag overrides the environment (MILOCO_EDGE_INFER_MODEL), which overrides this file.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import click


def config_path() -> Path:
    """Where the file is looked for."""
    named = os.environ.get("MILOCO_EDGE_CONFIG")
    return Path(named) if named else Path(click.get_app_dir("miloco-edge")) / "config.toml"


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """The file's tables, with option names as click knows them; empty where there is no file.

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
    return {
        command: {option.replace("-", "_"): value for option, value in table.items()}
        for command, table in tables.items()
    }


def by_parameter(path: Path, command: click.Command, options: dict[str, Any]) -> dict[str, Any]:
    """Options, named as on the command line, by the names that click has for them.

    A table within the command's is one of a command of its own, `[camera.probe]`. Raises
    click.UsageError for an option that the command does not have.
    """
    names = {name: option.name for option in _options(command) for name in _names(option)}
    found: dict[str, Any] = {}
    for option, value in options.items():
        inner = command.commands.get(option) if isinstance(command, click.Group) else None
        if inner is not None and isinstance(value, dict):
            own = {name.replace("-", "_"): each for name, each in value.items()}
            found[option] = by_parameter(path, inner, own)
        elif option in names:
            found[names[option] or option] = value
        else:
            raise click.UsageError(
                f"{path}: [{command.name}] expected an option of the command, got {option}"
            )
    return found


def read_environment(command: click.Command, prefix: str) -> None:
    """Have each option of a command read the variable that is named as the option is.

    Of itself click reads the one that is named as its parameter: `--config` is `config_path`.
    """
    for option in _options(command):
        if option.envvar is None:
            option.envvar = [f"{prefix}_{name.upper()}" for name in _names(option)]
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            read_environment(inner, f"{prefix}_{name.upper()}")


def _options(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option)]


def _names(option: click.Option) -> list[str]:
    """What an option is called, first of all on the command line."""
    flags = [flag[2:].replace("-", "_") for flag in option.opts if flag.startswith("--")]
    return list(dict.fromkeys((*flags, option.name or "")))
