"""`miloco-edge journal`: what a hub has told, and what it decided."""

from __future__ import annotations

from pathlib import Path

import click

from miloco_edge.cli.options import Moment, home_option, json_option
from miloco_edge.cli.output import Output
from miloco_edge.hub import config
from miloco_edge.hub.journal import query


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
