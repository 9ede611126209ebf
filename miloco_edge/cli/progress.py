"""Progress bars: on a terminal only, on stderr, with rate and time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from miloco_edge.cli.output import Output

Report = Callable[[int, int], None]
"""Called with what is done and the total."""


class _Rate(ProgressColumn):
    """How many a second, or a minute where they are slow."""

    def render(self, task: Task) -> Text:
        speed = task.speed or 0.0
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min" if speed else "")


@contextlib.contextmanager
def progress_bar(output: Output, label: str, *, in_bytes: bool = False) -> Iterator[Report]:
    """A bar to report to; where none may be drawn, reports go nowhere."""
    if not output.progress_wanted():
        yield lambda done, total: None
        return
    amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), _Rate())
    if in_bytes:
        amount = (DownloadColumn(binary_units=True), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
