"""Scores as a Markdown page, beside what the makers of a model published of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from miloco_edge.evaluate.manifest import Item
from miloco_edge.evaluate.run import Settings
from miloco_edge.evaluate.scores import BinaryScore, CategoryScore, Estimate, Scores, ThinkingScore


class Published(Protocol):
    """A table of scores that a model's makers published, in per cent."""

    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def note(self) -> str: ...  # noqa: D102
    @property
    def models(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def rows(self) -> tuple[tuple[str, tuple[float, ...]], ...]: ...  # noqa: D102


@dataclass(frozen=True)
class Headline:
    """The one figure of a task."""

    task: str
    measure: str
    n: int
    unread: int
    estimate: Estimate


def headlines(scores: Scores) -> list[Headline]:
    """One figure of each task that was asked, and the same of p_yes."""
    found: list[Headline] = []
    for name, binary in (("yes or no", scores.answers), ("yes or no by p_yes", scores.decisions)):
        if binary is not None:
            found += [
                Headline(name, "macro F1", binary.n, binary.unread, binary.macro_f1),
                Headline(
                    name, "balanced accuracy", binary.n, binary.unread, binary.balanced_accuracy
                ),
            ]
    if (one := scores.choice) is not None:
        found.append(Headline("choice", "accuracy", one.n, one.unread, one.accuracy))
    if (span := scores.temporal) is not None:
        found.append(Headline("when", "mIoU", span.n, span.unread, span.miou))
    if (place := scores.point) is not None:
        found.append(
            Headline("where", "centre accuracy", place.n, place.unread, place.centre_accuracy)
        )
    if (text := scores.exact) is not None:
        found.append(Headline("exact", "exact match", text.n, text.unread, text.accuracy))
    return found


def benchmark_of(items: Sequence[Item]) -> str | None:
    """The benchmark that all items are of, by the part of their ids before a slash."""
    names = {item.id.partition("/")[0] if "/" in item.id else "" for item in items}
    name = names.pop() if len(names) == 1 else ""
    return name or None


def markdown(
    model: str,
    manifest: str,
    items: Sequence[Item],
    settings: Settings,
    scores: Scores,
    published: Sequence[Published] = (),
) -> str:
    """The page. Published tables stand beside our rows where names agree, else at the end."""
    lines = [
        f"# {model} on {manifest}",
        "",
        f"{len(items)} questions, {_manner(settings)}. Figures are per cent, with 95 % intervals "
        "by bootstrap over groups; an answer that cannot be read counts as wrong.",
        "",
        *_table(
            ("task", "measure", "value", "95 %", "questions", "unread"),
            (
                (h.task, h.measure, _percent(h.estimate.value), _range(h.estimate), str(h.n),
                 str(h.unread))
                for h in headlines(scores)
            ),
        ),
    ]  # fmt: skip
    if scores.answers is not None:
        lines += ["", *_categories(scores, scores.answers, published)]
    lines += ["", *_details(scores)]
    if scores.slices:
        lines += ["", *_slices(scores)]
    mine = benchmark_of(items)
    for table in published:
        if not _matching(scores.answers, table):
            lines += ["", *_theirs(table, mine, headlines(scores))]
    return "\n".join(lines) + "\n"


def _manner(settings: Settings) -> str:
    how = "greedy" if settings.temperature == 0 else f"temperature {settings.temperature:g}"
    frames = f"{settings.frames} frames" if settings.frames else f"{settings.fps:g} frames a second"
    parts = [how, "thinking" if settings.think else "/no_think", frames]
    if settings.visual_tokens:
        parts.append(f"at most {settings.visual_tokens} visual tokens")
    if settings.layout:
        parts.append(f"laid out as {settings.layout}")
    return ", ".join(parts)


def _categories(
    scores: Scores, answers: BinaryScore, published: Sequence[Published]
) -> Iterator[str]:
    """F1 by category, with the published F1 of the same name."""
    table = next((table for table in published if _matching(answers, table)), None)
    theirs = {_name(row): values for row, values in table.rows} if table else {}
    models = table.models if table else ()
    decided = scores.decisions.categories if scores.decisions else {}
    yield "## Yes or no, by category"
    yield ""
    yield from _table(
        ("category", "n", "yes", "precision", "recall", "F1", "95 %", "F1 by p_yes",
         *(f"*{model}*" for model in models)),
        (
            (name, *_row(one, decided.get(name)),
             *(f"*{value}*" for value in theirs.get(_name(name), ("",) * len(models))))
            for name, one in answers.categories.items()
        ),
    )  # fmt: skip
    if table:
        yield ""
        yield f"*In italics: {table.source}. {table.note} Another data set: not comparable.*"


def _row(one: CategoryScore, decided: CategoryScore | None) -> tuple[str, ...]:
    return (
        str(one.n), str(one.positives), _percent(one.precision), _percent(one.recall),
        _percent(one.f1.value), _range(one.f1), _percent(decided.f1.value if decided else None),
    )  # fmt: skip


def _details(scores: Scores) -> Iterator[str]:
    yield "## Details"
    yield ""
    if (p_yes := scores.p_yes) is not None:
        yield (
            f"- p_yes: Brier {_number(p_yes.brier.value)}, calibration error {_number(p_yes.ece)}, "
            f"AUROC {_number(p_yes.auroc.value)}, undecided {_percent(p_yes.abstention)} %, "
            f"outside yes and no {_percent(p_yes.outside_mass)} %"
        )
    if (span := scores.temporal) is not None:
        recall = " / ".join(_percent(r) for r in (span.r_at_3, span.r_at_5, span.r_at_7))
        yield f"- when: R@0.3 / 0.5 / 0.7 {recall}"
    if (place := scores.point) is not None:
        yield f"- where: {place.boxes} answers with a box, their mIoU {_percent(place.box_miou)}"
    yield _thinking(scores.thinking)
    for what, spread in (("look at a clip", scores.look_s), ("question", scores.answer_s)):
        if spread.p50 is not None and spread.p95 is not None:
            yield f"- {what}: p50 {spread.p50:.3f} s, p95 {spread.p95:.3f} s"
    if scores.visual_tokens is not None:
        yield f"- visual tokens of a clip: {scores.visual_tokens:.0f}"
    if scores.refused:
        yield f"- media that could not be shown: {len(scores.refused)} questions, counted as wrong"


def _thinking(found: ThinkingScore) -> str:
    line = (
        f"- thinking: {found.thought} of {found.answers} answers held a thought "
        f"({_percent(found.thought_share, 2)} %)"
    )
    if found.own_tags is None:
        return line
    own = f"{found.own_tags} ({_percent(found.own_tags_share, 2)} %)"
    return f"{line}; the model opened and closed it itself in {own}"


def _slices(scores: Scores) -> Iterator[str]:
    tasks = sorted({task for found in scores.slices.values() for task in found})
    yield "## Right answers by kind of question"
    yield ""
    yield from _table(
        ("kind", *tasks),
        (
            (name, *(f"{_percent(found[t].value)} of {found[t].n}" if t in found else "-"
                     for t in tasks))
            for name, found in scores.slices.items()
        ),
    )  # fmt: skip


def _theirs(table: Published, mine: str | None, found: Sequence[Headline]) -> Iterator[str]:
    """A published table on its own, with our figure in the row of the benchmark that was run."""
    own = next((h for h in found if h.measure != "balanced accuracy"), None)
    yield f"## Published: {table.title}"
    yield ""
    yield from _table(
        ("benchmark", *(f"*{model}*" for model in table.models), "this run"),
        (
            (row, *(f"*{value}*" for value in values),
             _percent(own.estimate.value) if own and mine and _name(mine) == _name(row) else "-")
            for row, values in table.rows
        ),
    )  # fmt: skip
    yield ""
    yield f"*In italics: {table.source}. {table.note}*"


def _matching(answers: BinaryScore | None, table: Published) -> bool:
    if answers is None:
        return False
    return bool({_name(row) for row, _ in table.rows} & set(map(_name, answers.categories)))


def _name(text: str) -> str:
    """A category as a word: "Watch TV" and "watch_tv"; what follows "~" is a remark."""
    return text.partition("~")[0].lower().replace(" ", "_")


def _table(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "-"
    return f"{_percent(estimate.low)} – {_percent(estimate.high)}"
