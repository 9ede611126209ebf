"""The manifest of drawn clips, and the record of how hard they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miloco_edge import Clip
from models.demo import difficulty
from models.demo.apng import write_apng
from models.demo.manifest import write_manifest
from models.demo.scenes import CATEGORIES, render

FIELDS = ["id", "task", "media", "start", "end", "question", "options", "target", "category",
          "group", "split"]  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("drawn"), "test", 40)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_have_the_contracts_fields(manifest: Path) -> None:
    found = lines(manifest)
    assert len(found) == len({line["id"] for line in found}) == 40
    for line in found:
        assert list(line) == FIELDS
        assert line["split"] == "test" and line["task"] in ("binary", "temporal", "point", "exact")
        assert (manifest.parent / line["media"]).is_file()


def test_rules_are_balanced_over_categories(manifest: Path) -> None:
    counts = Counter((x["category"], x["target"]) for x in lines(manifest) if x["task"] == "binary")
    assert sum(counts[c, "yes"] for c in CATEGORIES) == sum(counts[c, "no"] for c in CATEGORIES)
    assert {category for category, _ in counts} == set(CATEGORIES)
    hard = [x for x in lines(manifest) if x["target"] == "no" and "hard" in x["id"].split("-")]
    assert len(hard) > 0.3 * sum(x["target"] == "no" for x in lines(manifest))


def test_clips_are_read_back_as_the_model_was_shown_them(manifest: Path) -> None:
    for file in list((manifest.parent / "clips").iterdir())[:12]:
        scene, clip = render(int(file.stem)), Clip.from_file(file)
        assert clip.fps == scene.fps
        assert clip.times_s == pytest.approx(scene.plan.times_s)
        for frame, drawn in zip(clip.frames, scene.frames, strict=True):
            assert (frame.pixels == drawn).all()


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split: expected one of"):
        write_manifest(tmp_path, "holidays", 1)


def test_frames_that_are_alike_are_all_kept(tmp_path: Path) -> None:
    frames = np.full((6, 28, 56, 3), 90, np.uint8)
    write_apng(tmp_path / "still.png", frames, 2)
    clip = Clip.from_file(tmp_path / "still.png")
    assert len(clip.frames) == 6 and clip.times_s[-1] == 2.5


def test_recorded_probes_stay_below_their_limits() -> None:
    recorded = json.loads(difficulty.RESULT.read_text())
    assert recorded["limits"] == difficulty.LIMITS
    pooled = recorded["mean_pixels"]["macro_f1"].values()
    frame = recorded["one_frame"]["macro_f1"].values()
    assert 0 < max(pooled) < difficulty.LIMITS["mean_pixels_macro_f1"]
    assert 0 < max(frame) < difficulty.LIMITS["one_frame_macro_f1"]
    assert min(recorded["one_frame"]["with_time_macro_f1"].values()) > max(frame)


def test_macro_f1() -> None:
    truth, said = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    assert difficulty.macro_f1(truth, said, 3) == pytest.approx((0.5 + 0.8 + 0) / 3)
