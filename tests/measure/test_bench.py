from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from miloco_edge import Clip, Engine
from miloco_edge.cli.bench import bench_command
from miloco_edge.cli.output import Output
from miloco_edge.measure import roofline
from miloco_edge.measure.bench import deadlines, energy_per_answer, idle_power, stage_figures
from miloco_edge.measure.energy import Energy
from miloco_edge.measure.film import mark, write_film
from miloco_edge.measure.stages import STAGES, Sample, Stages, Workload, measure_window


def run(*args: object) -> Result:
    return CliRunner().invoke(
        bench_command, [*map(str, args)], obj=Output(), catch_exceptions=False
    )


def sample(total_s: float, *, cold: bool = False, unanswered: bool = False) -> Sample:
    stages = Stages(total_s=total_s)
    return Sample(cold, stages, 64, 1, (224, 224), 80, 4, "x", "stop", ("yes",), unanswered)


@pytest.fixture
def workload(clip: Clip) -> Workload:
    return Workload(
        lambda: Clip.from_frames([frame.pixels.copy() for frame in clip.frames], fps=2.0),
        answer_tokens=3,
        visual_tokens=128,
    )


def test_a_window_stage_by_stage(engine: Engine, workload: Workload) -> None:
    captured = time.perf_counter() - 5.0
    window = measure_window(engine, workload, 1, captured)
    stages = window.stages
    assert all(getattr(stages, name) is not None for name in STAGES)
    assert stages.wait_s is not None and stages.wait_s >= 5.0
    assert stages.vision_pair_s == pytest.approx((stages.vision_s or 0) / 2)
    # What is measured as a whole holds its parts, from the capture on.
    parts = ("wait_s", "decode_s", "resize_s", "vision_s", "prefill_s", "decision_s")
    assert stages.total_s > sum(getattr(stages, part) for part in parts)
    assert 5.0 < (stages.first_token_s or 0) < stages.total_s
    assert (window.temporal_patches, window.answer_tokens) == (2, 3)
    assert len(window.decisions) == 2 and not window.unanswered


def test_pictures_are_never_those_of_another_window(engine: Engine, workload: Workload) -> None:
    hits = engine._loaded.lookout.embeddings
    before = hits.hits
    first = measure_window(engine, workload, 11)
    second = measure_window(engine, workload, 12)
    assert hits.hits == before
    again = measure_window(engine, workload, 11)
    assert hits.hits == before + 2  # the same number gives the same pictures
    assert (again.answer, again.decisions) == (first.answer, first.decisions)
    assert second.visual_tokens == first.visual_tokens


def test_a_deadline_that_has_passed(engine: Engine, workload: Workload) -> None:
    from dataclasses import replace

    late = replace(workload, deadline_s=1e-6)
    window = measure_window(engine, late, 2)
    assert window.unanswered and window.finish_reason == "deadline"
    assert window.decisions == ("unknown", "unknown")
    assert window.stages.prefill_s is None and window.size is None
    assert deadlines([window, sample(1e-7)], 1e-6) == {
        "deadline_s": 1e-6, "windows": 2, "late": 1, "unanswered": 1,
    }  # fmt: skip
    assert deadlines([window], None) is None


def test_stages_that_no_window_had_are_null() -> None:
    figures = stage_figures([sample(2.0), sample(4.0)])
    assert figures["total_s"]["p50"]["value"] == 3.0
    assert figures["total_s"]["p99"] is None
    assert figures["vision_s"] is None


class Meter:
    sensor = "a test's"

    def start(self) -> None: ...

    def stop(self) -> Energy:
        return Energy(self.sensor, 30.0, 10.0)

    def close(self) -> None: ...


def test_energy_is_told_gross_and_above_idle() -> None:
    slept: list[float] = []
    assert idle_power(Meter(), 10.0, slept.append) == 3.0
    assert slept == [10.0]
    told = energy_per_answer(Energy("s", 100.0, 20.0), 4, 3.0, None)
    assert (told["joules"], told["joules_above_idle"]) == (25.0, 10.0)
    assert energy_per_answer(None, 4, None, "no sensor")["joules"] is None


def test_the_drawn_film_and_its_marks(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", size=(320, 240), seconds=2.0)
    clip = Clip.from_file(film, frames=4)
    assert clip.frames[0].size == (320, 240)
    assert not np.array_equal(clip.frames[0].pixels, clip.frames[1].pixels)
    before = clip.frames[0].pixels.copy()
    mark(clip, 7)
    changed = (clip.frames[0].pixels != before).any(axis=-1)
    assert changed[:56, :112].mean() > 0.9 and not changed[56:].any()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that need not be measured."""
    machine = roofline.Machine(1, 1e10, 1e11, 1e11)
    monkeypatch.setattr(roofline, "measure_machine", lambda *_, **__: machine)


@pytest.mark.usefixtures("quick")
def test_the_command(pair: Path, tmp_path: Path) -> None:
    out, page, plots = tmp_path / "a.json", tmp_path / "a.md", tmp_path / "plots"
    result = run(
        pair, "-n", 5, "--threads", 1, "--context", 1024, "--visual-tokens", 64, "--frames", 2,
        "--max-tokens", 2, "--idle", 0, "--deadline", 3600, "--interval", 0.001, "--roofline",
        "--mode", "live",
        "--out", out, "--markdown", page, "--plots", plots, "--json",
    )  # fmt: skip
    document: dict[str, Any] = json.loads(result.stdout)
    assert document == json.loads(out.read_text())
    assert document["config"]["economy"]["static_below"] == 8.0, "live"
    assert [sample["cold"] for sample in document["samples"]] == [True] + [False] * 5
    assert document["stages"]["warm"]["total_s"]["n"] == 5
    assert document["deadline"] == {
        "deadline_s": 3600.0, "windows": 5, "late": 0, "unanswered": 0,
    }  # fmt: skip
    assert len(document["model"]["sha256"]) == len(document["answers_sha256"]) == 64
    assert document["config"]["film"] == "drawn" and document["config"]["threads"] == 1
    assert document["peak_resident_bytes"] > document["model"]["text_bytes"]
    assert document["capacity"] is None and document["thermal"]["before"] is not None
    assert [point["stage"] for point in document["roofline"]["points"]] == [
        "decode", "prefill", "ViT",
    ]  # fmt: skip
    text = page.read_text()
    assert "| ViT, a pair | 5 |" in text and "## Roofline" in text
    for name in ("breakdown", "roofline"):
        with Image.open(plots / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 4


def test_two_results_compared(tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    for path, factor in ((before, 1.0), (after, 1.5)):
        windows = [asdict(sample(factor * (1 + i / 100), cold=i == 0)) for i in range(21)]
        path.write_text(json.dumps({"host": {"cpu": path.stem}, "samples": windows}))
    same = run("diff", before, before, "--check", "--json")
    document = json.loads(same.stdout)
    assert same.exit_code == 0 and not document["regressed"] and "permutation" in document["test"]
    assert {change["verdict"] for change in document["changes"]} == {"same"}
    slower = run("diff", before, after, "--check")
    assert slower.exit_code == 1 and "slower" in slower.stdout
    assert "host.cpu: 'before' and 'after'" in slower.stderr
    assert run("diff", before, after).exit_code == 0


def test_a_shape_without_weights_and_its_table() -> None:
    result = run(
        "--shape", "tiny", "-n", 1, "--threads", 1, "--context", 1024, "--visual-tokens", 64,
        "--frames", 2, "--max-tokens", 1, "--idle", 0, "--capacity", "--deadline", 1e-5,
    )  # fmt: skip
    assert result.exit_code == 0
    for words in ("decode video", "memory at the most", "1 unanswered", "cameras held"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["demo", "--shape", "tiny"], "expected MODEL or --shape, got both"),
        (["--capacity"], "--capacity needs --deadline"),
        (["--out", "/none/a.json"], "expected a folder /none, found none"),
    ],
)
def test_wrong_usage(args: list[str], words: str) -> None:
    result = CliRunner().invoke(bench_command, args, obj=Output())
    assert result.exit_code == 2 and words in result.output
