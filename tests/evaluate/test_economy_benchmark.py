"""The table of what economies cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.economy import Answered, Bench, Measure, held, markdown, measures, run, table
from miloco_edge import Clip, Economy
from miloco_edge.engine.economy import changed_pairs
from miloco_edge.evaluate.manifest import Item, read_manifest
from models.demo.manifest import write_manifest


def item(number: int, target: str, category: str = "ok") -> Item:
    return Item(str(number), "binary", (Path(f"{number}.mp4"),), "?", target, category=category,
                group=str(number))  # fmt: skip


def answered(*p_yes: float, seconds: float = 1.0) -> Answered:
    return Answered(p_yes, seconds, 100, {"pairs": 3, "static": 1})


def test_every_measure_that_leaves_out_has_one_that_does_by_chance() -> None:
    rows = measures()
    assert rows[0] == Measure("exact")
    assert len({row.name for row in rows}) == len(rows)
    chance = [row.economy for row in rows if row.by_chance]
    told = [row.economy for row in rows[2:] if row.economy.static_below or row.economy.prune_above
            or row.economy.prune_share or row.economy.coarse_below]  # fmt: skip
    assert len(told) == 2 * len(chance) and set(told) == set(chance)


def test_f1_and_how_it_differs_from_exact_mode() -> None:
    rows = [Measure("exact"), Measure("worse", Economy(static_below=8))]
    asked = [
        ([item(n, "yes" if n % 2 else "no")], [answered(n % 2), answered(0.0, seconds=0.5)])
        for n in range(20)
    ]
    exact, worse = table(rows, asked)
    assert (exact["macro_f1"], exact["f1_difference"], exact["same_answers"]) == (1.0, 0.0, 1.0)
    assert exact["f1_difference_95"] == (0.0, 0.0)
    assert (worse["macro_f1"], worse["f1_difference"], worse["same_answers"]) == (0.0, -1.0, 0.5)
    assert worse["time_ratio_p50"] == 0.5
    assert worse["pairs_left_out"] == pytest.approx(1 / 3)
    page = markdown([exact, worse]).splitlines()
    assert page[3] == "| worse | 0.0 | -100.0 | -100.0 … -100.0 | 50.0 % | 33.3 % | 100 | 0.50 |"


def test_it_runs(pair: Path, tmp_path: Path) -> None:
    path = write_manifest(tmp_path, "validation", 6)
    items = [each for each in read_manifest(path) if each.task == "binary"]
    wanted = ("exact", "live", "prune_share 0.5, by chance", "streaming", "closer", "KV")
    rows = [row for row in measures() if row.name.startswith(wanted)]
    assert len(rows) == 6
    with Bench(str(pair), threads=1) as bench:
        asked = list(run(bench, items, rows))
    assert asked and all(len(answers) == 6 for _, answers in asked)
    result = table(rows, asked)
    assert result[0]["visual_tokens"] > result[2]["visual_tokens"]
    assert all(row["questions"] == result[0]["questions"] for row in result)


def test_a_run_up_ends_where_the_clip_begins(pair: Path, clip: Clip) -> None:
    odd = Clip.from_frames([frame.pixels for frame in (*clip.frames, clip.frames[1])], clip.fps)
    with Bench(str(pair), threads=1) as bench:
        for each in (clip, odd):
            streamed = bench.answer(each, ["Is it red?"], Measure("s", Economy(streaming=64)))
            assert streamed.savings["pairs"] == (len(each.frames) + 1) // 2
            assert streamed.savings["streamed"] == streamed.savings["pairs"] - 1
            bench._engines[False].forget()


def test_stillness_before_a_clip_is_left_out(clip: Clip) -> None:
    longer = held(clip, 2)
    assert len(longer.frames) == len(clip.frames) + 4
    assert (longer.frames[-1].pixels == clip.frames[-1].pixels).all()
    pairs = [
        (a.pixels, b.pixels) for a, b in zip(longer.frames[::2], longer.frames[1::2], strict=True)
    ]
    assert changed_pairs(pairs, None, 8.0) == [0, 2, 3]
