"""`miloco-edge journal`: what a hub has told, and what it decided."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

import click

from miloco_edge.cli.options import home_option, json_option
from miloco_edge.cli.output import Output
from miloco_edge.hub import config
from miloco_edge.hub.journal import query

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


@click.command("journal")
@home_option("The home whose journal it is.")
@click.option("--path", type=click.Path(path_type=Path), help="The journal itself, instead.")
@click.option("--since", type=Moment(), help="2026-11-21T08:00, 08:00, or 2h for so long ago.")
@click.option("--until", type=Moment(), help="Likewise.")
@click.option("--camera", help="Of one camera.")
@click.option("--rule", help="Of one rule, by its id.")
@click.option("--decisions", is_flag=True, help="Single decisions instead of events.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="The newest so many.",
)
@json_option
def journal_command(
    output: Output,
    *,
    config_path: Path,
    path: Path | None,
    since: float | None,
    until: float | None,
    camera: str | None,
    rule: str | None,
    decisions: bool,
    limit: int,
) -> None:
    """Show past events, oldest first. With --json, one per line."""
    rows = query(
        path or config.read(config_path).journal.path,
        "decisions" if decisions else "events",
        start=since,
        end=until,
        camera=camera,
        rule=rule,
        limit=limit,
    )
    if output.as_json:
        for row in rows:
            output.line(row)
    elif decisions:
        columns = ("time", "camera", "rule", "answer", "p_yes", "reason", "latency_s")
        output.table(columns, ([_shown(row[name]) for name in columns] for row in rows))
    else:
        output.table(
            ("time", "camera", "rule", "state", "p_yes", "reason", "text"),
            (
                [
                    row["time"],
                    row["camera"],
                    row["rule"]["id"],
                    row["state"],
                    *(_shown(row[name]) for name in ("p_yes", "reason")),
                    row["rule"]["text"],
                ]
                for row in rows
            ),
        )


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
