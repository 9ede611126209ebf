"""A result as rows for a terminal and as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from miloco_edge.measure.capacity import MOST_CAMERAS, Capacity
from miloco_edge.measure.difference import Difference
from miloco_edge.measure.roofline import Machine, Point

Row = tuple[str, ...]
Table = tuple[Row, list[Row]]
"""Column names and rows."""

_NAMES = {
    "wait_s": "wait",
    "decode_s": "decode video",
    "resize_s": "resize",
    "vision_s": "ViT",
    "vision_pair_s": "ViT, a pair",
    "prefill_s": "prefill of the video",
    "question_s": "prefill of the question",
    "first_token_s": "to the first token",
    "token_s": "a token",
    "decision_s": "decision",
    "total_s": "total",
}


def stage_table(document: Mapping[str, Any]) -> Table:
    """A row for each stage: cold, then the quantiles of the warm windows with intervals."""
    cold, warm = document["stages"]["cold"], document["stages"]["warm"]
    rows = []
    for stage, name in _NAMES.items():
        if warm[stage] is None and cold[stage] is None:
            continue
        figures = warm[stage] or {}
        first = cold[stage]["p50"]["value"] if cold[stage] else None
        quantiles = [_estimate(figures.get(q)) for q in ("p50", "p90", "p95", "p99")]
        rows.append((name, str(figures.get("n", 0)), _seconds(first), *quantiles))
    return ("stage", "n", "cold", "p50", "p90", "p95", "p99"), rows


def summary_lines(document: Mapping[str, Any]) -> list[str]:
    """What the table does not say: deadline, memory, energy, heat, answers."""
    deadline, energy = document["deadline"], document["energy"]
    lines = []
    if deadline is not None:
        lines.append(
            f"deadline of {deadline['deadline_s']:g} s: {deadline['late']} late and "
            f"{deadline['unanswered']} unanswered of {deadline['windows']} windows"
        )
    if document["peak_resident_bytes"] is not None:
        lines.append(f"memory at the most: {document['peak_resident_bytes'] / 2**30:.2f} GiB")
    if energy["sensor"] is None:
        lines.append(f"energy: no sensor ({energy['reason']})")
    else:
        above = energy["joules_above_idle"]
        rest = "" if above is None else f", {above:.2f} J above idle"
        lines.append(f"energy of a window: {energy['joules']:.2f} J{rest} ({energy['sensor']})")
    throttled = document["thermal"]["throttled"]
    if throttled:
        lines.append(
            f"the CPU was slowed down for its heat {throttled} times: figures are too slow"
        )
    lines.append(f"loaded in {document['load_s']:.2f} s")
    lines.append(f"answers: sha256 {document['answers_sha256'][:16]}")
    return lines


def roofline_table(points: Sequence[Point]) -> Table:
    """A row for each stage under the roof."""
    return ("stage", "bound by", "GFLOP/s", "roof", "share"), [
        (p.stage, p.bound, f"{p.flops / 1e9:.1f}", f"{p.roof / 1e9:.1f}", f"{p.share:.0%}")
        for p in points
    ]


def read_roofline(document: Mapping[str, Any]) -> tuple[Machine, list[Point]]:
    """What a result holds of the machine and its stages."""
    names = [field.name for field in fields(Point)]
    points = [Point(**{name: point[name] for name in names}) for point in document["points"]]
    return Machine(**document["machine"]), points


def machine_line(machine: Machine) -> str:
    """The machine's own figures."""
    return (
        f"{machine.threads} threads: memory {machine.bandwidth / 1e9:.1f} GB/s, "
        f"text kernel {machine.text_flops / 1e9:.0f} GFLOP/s, "
        f"ViT kernel {machine.vision_flops / 1e9:.0f} GFLOP/s"
    )


def capacity_table(capacity: Capacity) -> Table:
    """Cameras for each number of rules (rows) and interval (columns)."""
    intervals = sorted({held.interval_s for held in capacity.held})
    cameras = {(held.rules, held.interval_s): _cameras(held.cameras) for held in capacity.held}
    rows = [
        (str(rules), *(cameras[rules, interval] for interval in intervals))
        for rules in sorted(capacity.service_s)
    ]
    return ("rules", *(f"every {interval:g} s" for interval in intervals)), rows


def _cameras(count: int) -> str:
    return f"{count} or more" if count == MOST_CAMERAS else str(count)


def trial_lines(capacity: Capacity) -> list[str]:
    """What became of the largest promises."""
    return [
        f"tried {t.held.cameras} cameras with {t.held.rules} rules every {t.held.interval_s:g} s: "
        f"p95 {t.p95_s:.2f} s over {t.windows} windows, {t.unanswered} unanswered: "
        f"{'kept' if t.kept else 'NOT kept, believe less than the table'}"
        for t in capacity.trials
    ]


def difference_table(difference: Difference) -> Table:
    """A row for each stage before and after."""
    rows: list[Row] = []
    for change in difference.changes:
        ratio = change.ratio
        rows.append(
            (
                _NAMES[change.stage],
                _seconds(change.before_s),
                _seconds(change.after_s),
                "-"
                if ratio is None
                else f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
                "-" if change.p is None else f"{change.p:.4f}",
                change.verdict,
            )
        )
    return ("stage", "before", "after", "ratio", "p", "verdict"), rows


def markdown(document: Mapping[str, Any]) -> str:
    """The whole result as a page."""
    host, model, config = document["host"], document["model"], document["config"]
    pace = config["interval_s"]
    parts = [
        f"# {model['name']} on {host['cpu']}",
        f"{document['test_time']}: {model['file_type']} with a vision encoder in "
        f"{model['vision_type']}, {config['windows']} windows, "
        + ("each after the one before it" if pace is None else f"one every {pace:g} s"),
        markdown_table(stage_table(document)),
        "Seconds: median and other quantiles with 95 % bootstrap intervals. A quantile that so few "
        "windows do not reach is left out. Times to the first token and in total count from the "
        "capture of the window.",
        _bullets(summary_lines(document)),
    ]
    if document.get("roofline"):
        machine, points = read_roofline(document["roofline"])
        parts += ["## Roofline", machine_line(machine), markdown_table(roofline_table(points))]
    parts += [
        "## Machine and build",
        _bullets(
            [
                f"{host['physical_cores']} cores ({host['logical_cores']} threads), "
                f"{_gib(host['memory_bytes'])}, {host['system']}",
                f"power mode: {host['power_mode'] or 'not told'}; "
                f"GPUs: {', '.join(host['gpus']) or 'none'}; "
                f"GPU backend of this build: {document['build']['gpu_backend'] or 'none'}",
                f"kernels: {document['build']['kernels']}",
                f"text sha256 {model['sha256']}, mmproj sha256 {model['mmproj_sha256']}",
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Columns and rows in Markdown."""
    columns, rows = table
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _estimate(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "-"
    low, high = _seconds(figure["low"]), _seconds(figure["high"])
    return f"{_seconds(figure['value'])} ({low} to {high})"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _gib(size: int | None) -> str:
    return "memory not told" if size is None else f"{size / 2**30:.0f} GiB"
