"""Options that several commands share."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click

from miloco_edge.cli.output import Output

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Moment(click.ParamType[float]):
    """A time of day (2026-11-21T08:00, 08:00) or a while ago (90s, 15m, 2h, 7d)."""

    name = "time"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse the option: seconds since 1970."""
        if isinstance(value, float):
            return value
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value):
            return time.time() - float(match[1]) * _UNITS[match[2]]
        try:
            if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", value):
                time_of_day = value.zfill(value.count(":") * 3 + 2)  # 8:00:30 too
                value = f"{datetime.now():%Y-%m-%d}T{time_of_day}"
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            self.fail(f"expected 2026-11-21T08:00, 08:00 or 2h, got {value!r}", param, ctx)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json`, and the Output that it takes as its first argument."""

    def choose(ctx: click.Context, _: click.Parameter, as_json: bool) -> None:
        ctx.ensure_object(Output).as_json = as_json

    wanted = click.option(
        "--json",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=choose,
        help="Print one JSON document on stdout.",
    )
    return wanted(click.pass_obj(command))


FILE = click.Path(dir_okay=False, path_type=Path)
SECONDS = click.FloatRange(min=0, min_open=True)

offline_option = click.option(
    "--offline", is_flag=True, help="Use what is on this machine; never the network."
)
model_option = click.option(
    "--model", metavar="REF", help="Alias, FILE.gguf, folder or org/repo[:QUANT]."
)
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), help="Ask so many questions, the first ones."
)
smart_home_option = click.option(
    "--smart-home", is_flag=True, help='Ask for {"result": ...}, for a hub to parse.'
)
language_option = click.option(
    "--lang",
    "language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Of the prompts that are ours.",
)


def home_option(help: str) -> Decorator:
    """Give a command the home that it is about, as `config_path`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=Path("home.toml"),
        show_default=True,
        help=help,
    )


def visual_tokens_option(default: int | None, help: str) -> Decorator:
    """Give a command `--visual-tokens`."""
    return click.option(
        "--visual-tokens",
        type=click.IntRange(min=4),
        default=default,
        show_default=default is not None,
        help=help,
    )


def answer_options(
    *,
    deadline: str,
    max_tokens: int,
    temperature: float | None = None,
    top_p: float | None = None,
) -> Decorator:
    """Give a command what says how a clip is shown and a question answered.

    `deadline` is what that option's help says; the others are defaults.
    """
    from miloco_edge.engine.engine import VISUAL_TOKENS
    from miloco_edge.engine.scene import THINKING_TOKENS

    options = (
        click.option("--think/--no-think", default=False, help="Let the model think first."),
        click.option(
            "--think-tokens",
            type=click.IntRange(min=0),
            default=THINKING_TOKENS,
            show_default=True,
            help="Close the thought by force after so many tokens.",
        ),
        click.option(
            "--max-tokens",
            type=click.IntRange(min=1),
            default=max_tokens,
            show_default=True,
            help="Longest answer.",
        ),
        click.option("--deadline", type=SECONDS, metavar="SECONDS", help=deadline),
        click.option(
            "--fps",
            type=SECONDS,
            default=2.0,
            show_default=True,
            help="Frames sampled from a second of video.",
        ),
        click.option("--frames", type=click.IntRange(min=1), help="Sample exactly so many frames."),
        visual_tokens_option(
            VISUAL_TOKENS, "Most visual tokens for a clip: kept by size first, then by frames."
        ),
        click.option(
            "--layout",
            type=click.Choice(["video", "images"]),
            help="Frames as one video (merged in pairs) or as separate pictures.",
        ),
        smart_home_option,
        language_option,
        click.option(
            "--temperature",
            type=click.FloatRange(min=0),
            default=temperature,
            show_default=temperature is not None,
            help="0 is greedy.",
        ),
        click.option(
            "--top-p", type=click.FloatRange(0, 1), default=top_p, show_default=top_p is not None
        ),
        click.option("--seed", type=int, help="Makes sampling repeatable."),
    )

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return give


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
