"""`miloco-edge watch`: run a home's cameras and rules, and show what happens."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click

from miloco_edge.cli.ending import until_stopped
from miloco_edge.cli.errors import report
from miloco_edge.cli.options import Moment, home_option, json_option
from miloco_edge.cli.output import Output, counted
from miloco_edge.cli.sinks import sink_kinds
from miloco_edge.errors import MilocoEdgeError
from miloco_edge.hub import config
from miloco_edge.hub.connect import engine_for
from miloco_edge.hub.event import Event, rfc3339
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.replay import replay
from miloco_edge.hub.schedule import ALWAYS
from miloco_edge.hub.settings import Home
from miloco_edge.serve.systemd import service

_REFRESH_S = 0.5
_LOOK_AT_FILE_S = 2.0


@click.command("watch")
@home_option("The home: cameras, rules, sinks.")
@click.option("--model", metavar="REF", help="Instead of the home's own; an URL is a server.")
@click.option(
    "--replay",
    "recording",
    type=click.Path(path_type=Path),
    metavar="RECORDING",
    help="Run the rules over a video file instead, and tell what they would have told.",
)
@click.option("--camera", help="Whose rules to replay; needed if the home has several cameras.")
@click.option(
    "--at",
    type=Moment(),
    help="When the recording began (2026-11-21T22:00, 22:00, or 8h for so long ago): what "
    "schedules go by.",
)
@json_option
def watch_command(
    output: Output,
    *,
    config_path: Path,
    model: str | None,
    recording: Path | None,
    camera: str | None,
    at: float | None,
) -> None:
    """Run the cameras and rules of a home until Ctrl-C; print events as they come.

    On a terminal it shows cameras and rules live; with --json it prints one event per line. The
    file may be edited meanwhile: what is right is taken over, what is wrong is said and left out.
    """
    home = config.read(config_path)
    # The hub keeps what the file says: that is what an edit of it is compared with.
    wanted = home if model is None else replace(home, models=(model,))
    if recording is not None:
        _replay(output, wanted, recording, camera, at)
        return
    if camera is not None or at is not None:
        option = "camera" if camera is not None else "at"
        raise click.UsageError(f"--{option} goes with --replay")
    kinds = sink_kinds(home)
    with until_stopped():
        engine = engine_for(wanted)
        try:
            output.note("loading the model")
            engine.load()  # a model that is not there is said now, not with the first window
            hub = Hub(home, engine, sinks=kinds)
        except BaseException:
            engine.close()
            raise
        with hub, service(hub.status):
            _watch(output, hub)


def _watch(output: Output, hub: Hub) -> NoReturn:
    newest: deque[Event] = deque(maxlen=8)
    broken: list[BrokenPipeError] = []
    live = not output.as_json and sys.stdout.isatty()

    def tell(event: Event) -> None:
        newest.append(event)
        try:
            if output.as_json:
                output.line(event.document())
            elif not live:
                output.text(sentence(event))
        except BrokenPipeError as error:  # in the sink's thread, where it would end nothing
            broken.append(error)

    hub.on_event(tell)
    edited = _Edited(hub)
    screens: AbstractContextManager[Any] = _screen() if live else nullcontext()
    with screens as screen:
        waited = 0.0
        while True:
            time.sleep(_REFRESH_S)
            if broken:
                raise broken[0]
            waited += _REFRESH_S
            if waited >= _LOOK_AT_FILE_S:
                waited = 0.0
                edited.look(output)
            if screen is not None:
                from miloco_edge.cli.watch_view import view

                with suppress(TimeoutError):  # it is at work: soon again
                    screen.update(view(hub.status(), list(newest)), refresh=True)


def _replay(
    output: Output, home: Home, recording: Path, camera: str | None, at: float | None
) -> None:
    names = list(home.cameras)
    if camera is None and len(names) != 1:
        raise click.UsageError(f"expected --camera with one of {', '.join(names)}, got none")
    camera = camera or names[0]
    if camera not in home.cameras:
        raise click.UsageError(f"expected --camera with one of {', '.join(names)}, got {camera}")
    rules = [rule for rule in home.rules.values() if camera in rule.cameras]
    if at is None and any(rule.schedule != ALWAYS for rule in rules):
        output.note("schedules go by the time now; --at says when the recording began")
    engine = engine_for(home)
    told = 0
    try:
        for event in replay(home, engine, recording, camera, start=at):
            told += 1
            if output.as_json:
                output.line(event.document())
            else:
                output.text(sentence(event))
    finally:
        engine.close()
    output.note(counted(told, "event"))


class _Edited:
    """The home's file, looked at now and then."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._stamp: tuple[int, int] | None = None
        """None at first: it may have been edited while the model was loaded."""

    def look(self, output: Output) -> None:
        """Take over what was edited, or say why not."""
        stamp = self._read()
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            if self._hub.reload():
                output.note(f"{self._hub.home.path} was taken over")
        except (MilocoEdgeError, OSError) as error:  # such as a file that only root may read
            known = report(error)
            assert known is not None
            output.error(known.message, known.hint, type(error).__name__)
            output.note("what was in force stays so")

    def _read(self) -> tuple[int, int] | None:
        try:
            status = self._hub.home.path.stat()
        except OSError:  # an editor is about to put the new one there
            return None
        return status.st_mtime_ns, status.st_size


def _screen() -> Any:
    from rich.console import Console  # not on top: --json needs none of it
    from rich.live import Live

    return Live(console=Console(), auto_refresh=False, transient=True)


def sentence(event: Event) -> str:
    """An event as a person reads it."""
    odds = "" if event.p_yes is None else f"  p_yes {event.p_yes:.2f}"
    why = "" if event.reason is None else f"  ({event.reason})"
    return (
        f"{rfc3339(event.time)}  {event.camera}  {event.rule.id}: {event.state}{odds}{why}"
        f"  {event.rule.text}"
    )
