"""p_yes of rules over time as HTML: a line for each rule, the threshold across it, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from miloco_edge.page.watch import Judged
from miloco_edge.page.words import Language, word
from miloco_edge.types import Decision

_WIDTH, _HEIGHT = 600, 80


def verdict(decision: Decision, threshold: float, language: Language) -> str:
    """Whether a rule holds, in words; the reason where that is unknown."""
    if decision.answer == "unknown" or decision.p_yes is None:
        return f"{word('unknown', language)} ({decision.reason})"
    return word("holds" if decision.p_yes >= threshold else "not_holds", language)


def chart(course: Sequence[Judged], threshold: float, language: Language) -> str:
    """All rules of a watch, as far as it has come."""
    if not course:
        return f"<p>{escape(word('below_rules', language))}</p>"
    newest = course[-1]
    rows = [
        _row(number, decision, course, threshold, language)
        for number, decision in enumerate(newest.decisions)
    ]
    unit = word("seconds", language)
    when = (
        f"{word('time', language)} {newest.start_s:.1f}–{newest.end_s:.1f} {unit} · "
        f"{newest.took_s:.2f} {unit}"
    )
    return (
        f'<div class="odds" aria-live="polite"><p>{escape(when)}</p>'
        f"<table><caption>{escape(word('odds', language))}</caption><thead><tr>"
        f'<th scope="col">{word("rule", language)}</th><th scope="col">p_yes</th>'
        f'<th scope="col">{escape(word("odds", language))}</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(
    number: int,
    decision: Decision,
    course: Sequence[Judged],
    threshold: float,
    language: Language,
) -> str:
    odds = "–" if decision.p_yes is None else f"{decision.p_yes:.2f}"
    said = verdict(decision, threshold, language)
    kind = (
        "unknown"
        if decision.answer == "unknown" or decision.p_yes is None
        else "yes"
        if decision.p_yes >= threshold
        else "no"
    )
    line = _line([judged.decisions[number].p_yes for judged in course], threshold)
    return (
        f'<tr class="{kind}"><th scope="row">{escape(decision.rule)}</th>'
        f"<td><b>{odds}</b><br>{escape(said)}</td><td>{line}</td></tr>"
    )


def _line(odds: Sequence[float | None], threshold: float) -> str:
    """A line through the known odds, broken where they are unknown: (0, bottom) to (1, top)."""
    step = _WIDTH / max(len(odds) - 1, 1)
    runs: list[list[str]] = [[]]
    for number, p_yes in enumerate(odds):
        if p_yes is None:
            runs.append([])
        else:
            runs[-1].append(f"{number * step:.1f},{(1 - p_yes) * _HEIGHT:.1f}")
    drawn = "".join(
        f'<polyline points="{" ".join(run)}"/>'
        if len(run) > 1
        else f'<circle cx="{run[0].split(",")[0]}" cy="{run[0].split(",")[1]}" r="4"/>'
        for run in runs
        if run
    )
    at = (1 - threshold) * _HEIGHT
    return (
        f'<svg viewBox="-4 -4 {_WIDTH + 8} {_HEIGHT + 8}" preserveAspectRatio="none" '
        f'aria-hidden="true"><line x1="0" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>{drawn}</svg>'
    )
