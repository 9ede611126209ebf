"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

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


class GpuLayers(click.ParamType["int | Literal['auto']"]):
    """A number of layers, or "auto"."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto"]:
        """Parse the option."""
        if value == "auto":
            return "auto"
        if str(value).isdigit():
            return int(value)
        self.fail(f"expected a number of layers or auto, got {value!r}", param, ctx)


def load_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of Engine.load, as one argument `load`."""
    # Not on top: `--help` of commands that load nothing stays quick.
    from miloco_edge.engine.economy import MODES
    from miloco_edge.engine.engine import CONTEXT, MAX_CONTEXT

    @click.option(
        "--mmproj",
        type=click.Path(path_type=Path),
        help="The vision encoder, where it is not beside the model.",
    )
    @click.option(
        "--context",
        type=click.IntRange(256, MAX_CONTEXT),
        default=CONTEXT,
        show_default=True,
        help="Tokens of the KV cache.",
    )
    @click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: all cores.")
    @click.option("--gpu-layers", type=GpuLayers(), default="auto", show_default=True)
    @click.option(
        "--mode",
        "economy",
        type=click.Choice(list(MODES)),
        default="exact",
        show_default=True,
        help="What may be left out of a video: nothing, or as the hub does what has not changed.",
    )
    @offline_option
    @functools.wraps(command)
    def with_load(*args: Any, **options: Any) -> Any:
        names = ("mmproj", "context", "threads", "gpu_layers", "economy", "offline")
        return command(*args, load={name: options.pop(name) for name in names}, **options)

    return with_load
