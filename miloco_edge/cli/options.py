"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from miloco_edge.cli.output import Output


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json`, and the Output that it takes as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @click.pass_obj
    @functools.wraps(command)
    def with_output(output: Output, /, as_json: bool, **options: Any) -> Any:
        return command(replace(output, as_json=as_json), **options)

    return with_output


offline_option = click.option(
    "--offline", is_flag=True, help="Use what is on this machine; never the network."
)
