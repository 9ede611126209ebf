"""All that commands print goes through one Output: data to stdout, the rest to stderr."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass
class Output:
    """Where a command's words go: human text or one JSON document on stdout, the rest on stderr.

    One for the whole process, so that a failure is told as what is asked for, wherever that is.
    """

    as_json: bool = False
    verbosity: int = 0
    """-1 quiet, 0 normal, 1 and 2 verbose."""

    def data(self, document: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print the command's one JSON document (call it only when `as_json`)."""
        is_utf8 = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
        text = json.dumps(document, ensure_ascii=not is_utf8, allow_nan=False)
        # A file's name need not be in UTF-8: an escape is what JSON has for it.
        click.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))

    def line(self, document: Mapping[str, Any]) -> None:
        """Print one JSON object of a stream as a line, at once."""
        self.data(document)
        sys.stdout.flush()

    def text(self, text: str, *, newline: bool = True) -> None:
        """Print human data to stdout, at once."""
        click.echo(text, nl=newline)
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print rows to stdout, under their column names if those have any."""
        table = Table(box=None, pad_edge=False, show_header=any(columns))
        for column in columns:
            table.add_column(column, overflow="fold")  # a cut file name is of no use
        for row in rows:
            table.add_row(*map(Text, row))  # as it is: a rule may hold [brackets]
        width = None if sys.stdout.isatty() else 10_000  # a file or a pipe has no edge to wrap at
        Console(file=sys.stdout, highlight=False, soft_wrap=True, width=width).print(table)

    def note(self, text: str, *, newline: bool = True, dim: bool = False) -> None:
        """Say something beside the data, on stderr; silent with -q."""
        if self.verbosity >= 0:
            click.echo(click.style(text, dim=True) if dim else text, err=True, nl=newline)

    def error(self, message: str, hint: str | None, kind: str) -> None:
        """Report a failure: two lines on stderr and, with --json, its document on stdout."""
        click.echo(f"error: {message}", err=True)
        if hint:
            click.echo(f"hint: {hint}", err=True)
        if self.as_json:
            self.error_document(message, hint, kind)

    def error_document(self, message: str, hint: str | None, kind: str) -> None:
        """Print a failure's JSON document to stdout."""
        self.data({"error": {"type": kind, "message": message, "hint": hint}})

    def progress_wanted(self) -> bool:
        """Whether a progress bar may be drawn on stderr."""
        return sys.stderr.isatty() and self.verbosity >= 0 and not self.as_json


def counted(count: int, noun: str) -> str:
    """So many of something: "1 camera", "2 cameras"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
