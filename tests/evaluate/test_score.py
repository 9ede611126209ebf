from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from miloco_edge.evaluate.journal import Reply
from miloco_edge.evaluate.manifest import Item
from miloco_edge.evaluate.report import benchmark_of, headlines, markdown
from miloco_edge.evaluate.run import Settings
from miloco_edge.evaluate.score import score
from miloco_edge.evaluate.scores import Part
from miloco_edge.types import Box, Point, Span

BLANK = Reply(
    id="", text="", finish_reason="stop", thought=False, own_tags=False, boxes=(), points=(),
    spans=(), p_yes=None, outside_mass=None, decision=None, look_s=None, answer_s=0.1,
    visual_tokens=64, thinking_tokens=0, completion_tokens=2,
)  # fmt: skip


def binary(
    number: int, category: str, target: str, text: str, p_yes: float, decision: str | None = None
) -> tuple[Item, Reply]:
    name = f"test-{number:05d}-rule-en{'-hard' if target == 'no' and number % 2 else ''}"
    item = Item(name, "binary", (Path("a"),), "?", target, category=category, group=str(number))
    return item, replace(
        BLANK, id=name, text=text, p_yes=p_yes, outside_mass=0.1,
        decision=decision or ("yes" if p_yes >= 0.5 else "no"), look_s=float(number),
    )  # fmt: skip


PAIRS = [
    binary(1, "reading", "yes", "yes", 0.9),
    binary(2, "reading", "yes", "no", 0.6),
    binary(3, "reading", "no", "perhaps", 0.4),
    binary(4, "Watch TV", "no", "no", 0.2),
    binary(5, "Watch TV", "yes", "Yes.", 0.7, "unknown"),
]
OTHERS: list[tuple[Item, Reply]] = [
    (
        Item("c", "choice", (), "?", "A", options=("x", "y"), category="maths"),
        replace(BLANK, text="A"),
    ),
    (
        Item("t1", "temporal", (), "?", (0.0, 4.0), group="v"),
        replace(BLANK, spans=(Span("", 0.0, 2.0),)),
    ),
    (Item("t2", "temporal", (), "?", (0.0, 4.0), group="w"), BLANK),
    (
        Item("p1", "point", (), "?", (0.0, 0.0, 10.0, 10.0)),
        replace(BLANK, boxes=(Box("", (0, 0, 10, 5)),)),
    ),
    (
        Item("p2", "point", (), "?", (0.0, 0.0, 10.0, 10.0)),
        replace(BLANK, points=(Point("", (11, 3)),)),
    ),
    (Item("e", "exact", (), "?", ("four",)), replace(BLANK, text="Four!")),
]


@dataclass(frozen=True)
class Table:
    title: str = "Home scenes"
    source: str = "A report"
    note: str = "Theirs."
    models: tuple[str, ...] = ("Seven",)
    rows: tuple[tuple[str, tuple[float, ...]], ...] = (("Reading", (90.8,)), ("Video-MME", (68.0,)))


def columns(pairs: list[tuple[Item, Reply]]) -> tuple[list[Item], list[Reply]]:
    return [item for item, _ in pairs], [reply for _, reply in pairs]


def test_yes_or_no_by_hand() -> None:
    found = score(*columns(PAIRS), think=False)
    assert found.answers is not None and found.decisions is not None and found.p_yes is not None
    reading = found.answers.categories["reading"]
    # One found, one missed, and one that cannot be read where no was right: a false yes.
    assert (reading.tp, reading.fp, reading.fn, reading.tn) == (1, 1, 1, 0)
    assert (reading.n, reading.positives, reading.unread) == (3, 2, 1)
    assert reading.precision == reading.recall == reading.f1.value == 0.5
    tv = found.answers.categories["Watch TV"]
    assert (tv.tp, tv.fp, tv.fn, tv.tn) == (1, 0, 0, 1)
    assert found.answers.macro_f1.value == pytest.approx(0.75)
    assert found.answers.accuracy == pytest.approx(3 / 5)
    assert found.answers.balanced_accuracy.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.answers.unread == 1
    # By p_yes all of reading is right; "unknown" counts as wrong.
    assert found.decisions.categories["reading"].f1.value == 1
    assert found.decisions.categories["Watch TV"].fn == 1
    assert found.p_yes.abstention == pytest.approx(1 / 5)
    assert found.p_yes.brier.value == pytest.approx((0.01 + 0.16 + 0.16 + 0.04 + 0.09) / 5)
    assert found.p_yes.auroc.value == 1
    assert found.p_yes.outside_mass == pytest.approx(0.1)
    low, high = found.answers.macro_f1.low, found.answers.macro_f1.high
    assert low is not None and high is not None and low < 0.75 < high


def test_the_other_tasks_by_hand() -> None:
    found = score(*columns(OTHERS), think=False)
    assert (found.answers, found.decisions, found.p_yes) == (None, None, None)
    assert found.choice is not None and found.choice.categories == {"maths": Part(1, 1.0)}
    assert found.temporal is not None
    assert found.temporal.miou.value == pytest.approx(0.25)
    assert (found.temporal.unread, found.temporal.r_at_3, found.temporal.r_at_7) == (1, 0.5, 0)
    assert found.temporal.r_at_5 == 0.5
    assert found.point is not None and found.point.centre_accuracy.value == 0.5
    assert (found.point.boxes, found.point.box_miou) == (1, 0.5)
    assert found.exact is not None and found.exact.accuracy.value == 1
    assert found.slices == {}


def test_slices_by_marks_and_splits() -> None:
    pairs = [*PAIRS, *((replace(item, split="dev"), reply) for item, reply in PAIRS[:1])]
    slices = score(*columns(pairs), think=False).slices
    assert slices["hard"] == {"binary": Part(1, 0.0)}
    assert slices["easy"] == {"binary": Part(1, 1.0)}
    assert slices["dev"] == {"binary": Part(1, 1.0)}
    assert slices["en"]["binary"].n == 6


def test_thinking_latency_and_refusals() -> None:
    items, replies = columns(PAIRS)
    replies[0] = replace(replies[0], thought=True, own_tags=True)
    replies[1] = replace(replies[1], thought=True)
    replies[4] = replace(replies[4], text="", refused="cut short", p_yes=None, look_s=None)
    found = score(items, replies, think=True)
    thinking = found.thinking
    assert (thinking.answers, thinking.thought, thinking.own_tags) == (4, 2, 1)
    assert (thinking.thought_share, thinking.own_tags_share) == (0.5, 0.25)
    direct = score(items, replies, think=False).thinking
    assert (direct.thought_share, direct.own_tags, direct.own_tags_share) == (0.5, None, None)
    assert (found.look_s.n, found.look_s.p50) == (4, 2.5)
    assert found.look_s.p95 == pytest.approx(3.85)
    assert found.refused == {items[4].id: "cut short"}
    assert found.answers is not None and found.answers.unread == 2
    assert found.p_yes is not None and found.p_yes.n == 4


def test_scores_are_json() -> None:
    document = asdict(score(*columns(PAIRS + OTHERS), think=False))
    assert json.loads(json.dumps(document, allow_nan=False))["temporal"]["n"] == 2


def test_the_page_has_published_rows_beside_ours() -> None:
    items, replies = columns(PAIRS)
    page = markdown("demo", "m.jsonl", items, Settings(), score(items, replies, think=False),
                    [Table(), Table("General", rows=(("MMLU-Pro", (68.5,)),))])  # fmt: skip
    (row,) = [line for line in page.splitlines() if line.startswith("| reading")]
    assert [cell.strip() for cell in row.split("|")[1:8]] == [
        "reading", "3", "2", "50.0", "50.0", "50.0", "0.0 – 100.0",
    ]  # fmt: skip
    assert row.endswith("| *90.8* |")
    assert "A report. Theirs. Another data set: not comparable." in page
    assert "| MMLU-Pro | *68.5* | - |" in page
    assert page.count("90.8") == 1


def test_the_page_of_a_benchmark_fills_its_row() -> None:
    item, reply = OTHERS[0]
    items = [replace(item, id="Video-MME/1")]
    scores = score(items, [reply], think=False)
    page = markdown("demo", "m", items, Settings(visual_tokens=64, layout="images"), scores,
                    [Table()])  # fmt: skip
    assert "| Video-MME | *68.0* | 100.0 |" in page
    assert "| Reading | *90.8* | - |" in page
    assert "at most 64 visual tokens, laid out as images" in page
    assert benchmark_of([*items, item]) is None
    assert [(h.task, h.n) for h in headlines(scores)] == [("choice", 1)]
