"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, ParamSpec, TypeVar

import click

from miloco_edge.cli.output import Output

P = ParamSpec("P")
R = TypeVar("R")


def json_option(command: Callable[Concatenate[Output, P], R]) -> Callable[..., R]:
    """Give a command `--json`, and the Output that it asks for as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @click.pass_obj
    @functools.wraps(command)
    def with_output(output: Output, as_json: bool, *args: P.args, **kwargs: P.kwargs) -> R:
        return command(replace(output, as_json=as_json), *args, **kwargs)

    return with_output


offline_option = click.option(
    "--offline", is_flag=True, help="Use what is on this machine; never the network."
)
