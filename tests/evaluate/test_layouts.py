from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.layouts import BASE, Variant, laid_out, markdown, measure, variants
from miloco_edge import Clip, Engine
from miloco_edge.evaluate.manifest import Item

QUICK = replace(BASE, max_tokens=2, frames=4, visual_tokens=36)


def test_one_factor_is_varied_at_a_time() -> None:
    base = {"recipe": "bf16", "prefill": "video", **asdict(BASE)}
    seen: dict[str, set[str]] = {}
    for variant in variants():
        used = {**asdict(variant.settings), "recipe": variant.recipe, "prefill": variant.layout}
        seen.setdefault(variant.factor, set()).update(k for k, v in used.items() if base[k] != v)
    assert seen == {
        "type": {"recipe"}, "layout": {"layout", "prefill"}, "frames": {"frames"},
        "visual tokens": {"visual_tokens"},
    }  # fmt: skip
    names = [variant.name for variant in variants()]
    assert len(set(names)) == len(names) == 16


def test_merged_pairs_are_prefilled_as_pictures(engine: Engine, clip: Clip) -> None:
    found = {}
    for layout in ("video", "pairs", "video"):
        with laid_out(layout), engine.look(clip) as scene:  # type: ignore[arg-type]
            assert scene.usage.visual_tokens == 288
            found[layout] = (scene._prefilled.position, scene.logits("Is it so?")[0])
    video, pairs = found["video"], found["pairs"]
    # Two pairs of 12 x 12 tokens: one after the other, two markers between, or both at once.
    assert pairs[0] - video[0] == (12 + 2 + 12) - 12
    assert np.abs(pairs[1] - video[1]).max() > 0.01


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (84, 84, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return [
        Item("a", "binary", (folder,), "Is it red?", "yes", category="ok"),
        Item("b", "point", (folder,), "Where?", (0.0, 0.0, 9.0, 9.0)),
    ]


def test_a_table_is_measured_and_goes_on(
    checkpoint: Path, items: list[Item], tmp_path: Path
) -> None:
    some = [
        Variant("type", "q8_0", recipe="q8_0", settings=QUICK),
        Variant("layout", "pairs", layout="pairs", settings=QUICK),
    ]
    work = tmp_path / "work"
    rows = list(measure(checkpoint, items, work, 1, some))
    assert [(row.factor, row.value) for row in rows] == [("type", "q8_0"), ("layout", "pairs")]
    assert 0 < rows[0].bytes < rows[1].bytes
    assert rows[0].brier is not None and 0 < (rows[0].brier.value or 0) < 1
    assert rows[0].miou is None and rows[0].centre_accuracy is not None
    assert json.loads(json.dumps([asdict(row) for row in rows]))
    table = markdown(rows).splitlines()
    assert len(table) == 4 and table[2].startswith("| type q8_0 | ")
    kept = (work / "type-q8_0.jsonl").stat().st_mtime_ns
    again = list(measure(checkpoint, items, work, 1, some))
    assert again == rows
    assert (work / "type-q8_0.jsonl").stat().st_mtime_ns == kept
