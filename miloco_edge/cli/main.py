"""The `miloco-edge` command: registers the subcommands and holds the one try/except."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import traceback
from importlib.metadata import version

import click

from miloco_edge.cli.config import config_path, defaults, name_variables, read_config
from miloco_edge.cli.errors import FAILED, INTERRUPTED, report
from miloco_edge.cli.output import Output

# Command -> module. Imported only when called, so `--help` and `list` stay quick.
COMMANDS = {
    "infer": "miloco_edge.cli.infer",
    "quantize": "miloco_edge.cli.quantize",
    "calibrate": "miloco_edge.cli.calibrate",
    "compare": "miloco_edge.cli.compare",
    "eval": "miloco_edge.cli.eval",
    "watch": "miloco_edge.cli.watch",
    "journal": "miloco_edge.cli.journal",
    "serve": "miloco_edge.cli.serve",
    "camera": "miloco_edge.cli.camera",
    "demo": "miloco_edge.cli.demo",
    "bench": "miloco_edge.cli.bench",
    "tune": "miloco_edge.cli.tune",
    "doctor": "miloco_edge.cli.doctor",
    "pull": "miloco_edge.cli.models",
    "list": "miloco_edge.cli.models",
    "show": "miloco_edge.cli.models",
    "rm": "miloco_edge.cli.models",
}


class Commands(click.Group):
    """Subcommands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name` and return its command object, `<name>_command`."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(
            f"miloco-edge {version('miloco-edge')} (llama-cpp-python {version('llama-cpp-python')})"
        )
        ctx.exit()


@click.group(cls=Commands, context_settings={"auto_envvar_prefix": "MILOCO_EDGE"})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Print the version and exit.",
)
@click.option("-v", "--verbose", count=True, help="More words on stderr; -v -v shows tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.pass_context
def cli(ctx: click.Context, verbose: int, quiet: bool) -> None:
    """Ask your cameras questions; the model that answers never leaves the house."""
    tables = read_config(config_path())
    name = ctx.invoked_subcommand or ""
    if (command := cli.get_command(ctx, name)) is not None:
        name_variables(command, f"MILOCO_EDGE_{name.upper()}")
        ctx.default_map = {name: defaults(config_path(), command, tables.get(name, {}))}
    verbosity = -1 if quiet else verbose
    ctx.ensure_object(Output).verbosity = verbosity
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logging.basicConfig(level=level, stream=sys.stderr, format="%(name)s: %(message)s")


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the codes of docs/cli.md."""
    args = sys.argv[1:] if argv is None else argv
    output = Output(as_json="--json" in args)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # what it cannot say ends nothing
    try:
        code = cli.main(args, prog_name="miloco-edge", standalone_mode=False, obj=output)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        if output.as_json:
            output.error_document(error.format_message(), None, "UsageError")
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        output.error("interrupted", "run the same command again", "Interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        known = report(error)
        if args.count("-v") >= 2 or "-vv" in args or known is None:
            traceback.print_exc()
        if known is None:
            output.error(f"{type(error).__name__}: {error}", "this is a fault of ours", "Internal")
            sys.exit(FAILED)
        output.error(known.message, known.hint, type(error).__name__)
        sys.exit(known.exit_code)
