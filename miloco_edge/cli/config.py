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


def check_options(path: Path, command: click.Command, options: dict[str, Any]) -> None:
    """Raise click.UsageError for an option that the command does not have."""
    known = {
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name
    }
    for option in options:
        if option not in known:
            raise click.UsageError(
                f"{path}: [{command.name}] expected an option of the command, got {option}"
            )
