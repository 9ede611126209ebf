"""The command reference as Markdown, from every command's `--help`.

python -m miloco_edge.cli.reference > docs/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from miloco_edge.cli.config import commands_of
from miloco_edge.cli.main import cli

_HEAD = """# Command line

Written by `python -m miloco_edge.cli.reference > docs/cli.md`; a test holds it to what `--help`
says.
A flag wins over the environment (`MILOCO_EDGE_INFER_THREADS=4`), which wins over the configuration
file (`threads = 4` under `[infer]`). What may be repeated is one a line in the former, an array in
the latter.
Exit codes: 0 done · 1 failed · 2 usage · 3 not found · 4 input refused · 130 interrupted.
"""
_WIDTH = 96


def reference() -> str:
    """All commands and their subcommands, in the order of `miloco-edge --help`."""
    return _HEAD + "".join(_sections(cli, "miloco-edge", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    # Full words for help's columns wherever this runs.
    with click.Context(
        command, info_name=name, parent=parent, max_content_width=_WIDTH, terminal_width=_WIDTH
    ) as context:
        path = context.command_path
        level = min(path.count(" ") + 2, 4)
        yield f"\n{'#' * level} {path}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for subcommand in command.list_commands(context):
                found = command.get_command(context, subcommand)
                assert found is not None
                yield from _sections(found, subcommand, context)
        else:
            for subcommand, found in commands_of(command).items():
                yield from _sections(found, subcommand, context)


if __name__ == "__main__":
    sys.stdout.write(reference())
