from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miloco_edge import Engine
from miloco_edge.cli.infer import _degraded, _shown
from miloco_edge.cli.main import main
from miloco_edge.engine.rates import Rates
from miloco_edge.types import Answer, Degraded, Timings, Usage

CLIP = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"


class Run:
    """Runs the command line in this process: exit code, stdout, stderr."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in args])
        out, err = self._capfd.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    return Run(capfd)


@pytest.fixture
def base(pair: Path) -> list[object]:
    return ["infer", "--model", pair, "--context", 2048, "--threads", 1, "--max-tokens", 8]


def test_words_on_stdout_and_the_rest_on_stderr(run: Run, base: list[object]) -> None:
    code, out, err = run(*base, "--video", CLIP, "--ask", "Who?", "--ask", "What?")
    assert code == 0
    assert out.strip()
    assert "Who?" in err and "What?" in err
    assert "Who?" not in out


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_model_may_lie_in_a_folder_that_is_not_named_in_utf8(
    run: Run, base: list[object], pair: Path, tmp_path: Path
) -> None:
    base[2] = shutil.copytree(pair, tmp_path / os.fsdecode(b"caf\xe9"))
    Image.new("RGB", (56, 56)).save(tmp_path / "black.png")
    code, out, _ = run(*base, "--image", tmp_path / "black.png", "--ask", "Who?", "--json")
    assert code == 0
    assert Path(json.loads(out)["model"]["path"]).parent == base[2]


def test_the_json_document(run: Run, base: list[object], pair: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet"  # PNG by whatever name
    code, out, _ = run(
        *base, "--video", CLIP, "--ask", "Who?", "--ask", "What?", "--json",
        "--top-logprobs", 2, "--annotate", sheet, "--temperature", 0,
    )  # fmt: skip
    document = json.loads(out)
    assert code == 0
    assert list(document) == [
        "model", "video", "answers", "decisions", "usage", "timings", "degraded",
    ]  # fmt: skip
    assert document["model"]["file_type"] == "BF16"
    assert Path(document["model"]["path"]).parent == pair
    video = document["video"]
    assert video["frames"] == len(video["times_s"]) == 2 * video["temporal_patches"] == 10
    assert video["size"] == [448, 252]
    assert video["visual_tokens"] == 5 * 144
    assert document["degraded"] is None
    first, second = document["answers"]
    assert [a["question"] for a in (first, second)] == ["Who?", "What?"]
    assert second["usage"]["cached_tokens"] > 5 * 144 > first["usage"]["cached_tokens"]
    assert len(first["logprobs"][0]["top"]) == 2
    assert document["usage"]["visual_tokens"] == 5 * 144
    timings = document["timings"]
    assert timings["total_s"] >= timings["load_s"] > 0
    assert all(timings[stage] > 0 for stage in ("video_s", "vision_s", "prefill_s", "generate_s"))
    with Image.open(sheet) as drawn:
        assert drawn.format == "PNG" and drawn.width > 320


def test_rules_and_questions_together(run: Run, base: list[object]) -> None:
    args = [*base, "--video", CLIP, "--rule", "A ball rolls", "--rule", "有人", "--ask", "What?"]
    code, out, _ = run(*args, "--max-tokens", 2, "--json")
    document = json.loads(out)
    assert code == 0
    assert [list(decision) for decision in document["decisions"]] == [
        ["rule", "answer", "p_yes", "outside_mass", "path", "reason"]
    ] * 2
    for decision, rule in zip(document["decisions"], ("A ball rolls", "有人"), strict=True):
        assert (decision["rule"], decision["path"]) == (rule, "logits")
        assert (decision["answer"], decision["reason"]) == ("unknown", "outside_mass")
        assert 0 < decision["p_yes"] < 1 and 0.5 < decision["outside_mass"] <= 1
    assert [answer["question"] for answer in document["answers"]] == ["What?"]
    assert document["answers"][0]["usage"]["completion_tokens"] <= 2, "rules take nothing of it"
    usage = document["usage"]
    assert usage["prompt_tokens"] > 2 * usage["visual_tokens"] == 2 * 720
    assert usage["cached_tokens"] > usage["visual_tokens"]


def test_rules_alone(run: Run, base: list[object]) -> None:
    args = [*base, "--video", CLIP, "--visual-tokens", 64, "--rule", "A ball rolls"]
    code, out, _ = run(*args, "--smart-home", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["answers"] == []
    assert document["timings"]["first_token_s"] is None
    assert document["timings"]["generate_s"] == 0
    assert document["usage"]["completion_tokens"] == 0
    code, out, _ = run(*args)
    assert code == 0
    assert out.split()[:6] == ["rule", "answer", "p_yes", "A", "ball", "rolls"]
    assert "outside_mass" in out


def test_rules_without_time_are_unknown(run: Run, base: list[object]) -> None:
    args = [*base, "--video", CLIP, "--rule", "A ball rolls", "--deadline", 0.001]
    code, out, _ = run(*args, "--json")
    assert code == 0
    assert json.loads(out)["decisions"] == [
        {
            "rule": "A ball rolls", "answer": "unknown", "p_yes": None, "outside_mass": None,
            "path": "none", "reason": "deadline",
        }
    ]  # fmt: skip
    code, out, _ = run(*args)
    assert "unknown" in out and "deadline" in out and "-" in out


def test_a_smaller_budget_is_reported(run: Run, base: list[object]) -> None:
    args = [*base, "--video", CLIP, "--visual-tokens", 128]
    code, out, _ = run(*args, "--json")
    degraded = json.loads(out)["degraded"]
    assert code == 0
    assert degraded["reason"] == "visual_tokens"
    assert degraded["asked"]["visual_tokens"] == 720
    assert degraded["used"]["visual_tokens"] <= 128
    _, _, err = run(*args)
    assert "instead of 10 frames of 448x252 (720 visual tokens)" in err


def test_pictures(run: Run, base: list[object], tmp_path: Path) -> None:
    for name, size in (("a.png", (300, 200)), ("b.jpg", (200, 300))):
        pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    images = ["--image", tmp_path / "a.png", "--image", tmp_path / "b.jpg"]
    code, out, _ = run(*base, *images, "--json")
    video = json.loads(out)["video"]
    assert code == 0
    assert (video["layout"], video["frames"], video["temporal_patches"]) == ("images", 2, 2)
    code, out, _ = run(*base, "--video", tmp_path, "--json")
    assert code in (0, 4)  # a folder is a video: its pictures must have one size
    assert code == 4
    assert json.loads(out)["error"]["type"] == "MediaError"


def test_thinking_goes_to_stderr(run: Run, base: list[object]) -> None:
    code, out, _ = run(
        *base, "--video", CLIP, "--think", "--think-tokens", 8, "--temperature", 0, "--json"
    )
    answer = json.loads(out)["answers"][0]
    assert code == 0
    assert answer["usage"]["thinking_tokens"] == 8
    assert (answer["thinking_opened_by"], answer["thinking_closed_by"]) == (None, "engine")
    assert answer["usage"]["completion_tokens"] <= 16


def test_what_a_deadline_takes_is_predicted_and_what_it_costs_is_said(
    run: Run, base: list[object]
) -> None:
    args = [*base, "--video", CLIP, "--frames", 4, "--visual-tokens", 128, "--ask", "Who?"]
    code, out, err = run("-v", *args, "--rule", "A ball rolls", "--deadline", 120, "--json")
    timings = json.loads(out)["timings"]
    assert code == 0 and timings["predicted_s"] > 0
    assert f"predicted {timings['predicted_s']:.2f} s, took" in err
    code, out, _ = run(*args, "--json")
    assert json.loads(out)["timings"]["predicted_s"] is None


def test_what_is_measured_for_a_deadline_is_a_part_of_loading(
    run: Run, base: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Engine.rates

    def slowly(engine: Engine) -> Rates:
        time.sleep(0.5)
        return measure(engine)

    monkeypatch.setattr(Engine, "rates", slowly)
    began = time.perf_counter()
    args = [*base, "--video", CLIP, "--deadline", 0.001]
    code, out, _ = run(*args, "--json")
    took_s = time.perf_counter() - began
    timings = json.loads(out)["timings"]
    assert code == 0 and 0.5 < timings["load_s"] < timings["total_s"] < took_s


def test_what_was_given_up_is_said_as_one() -> None:
    look = Degraded("deadline", {"frames": 6, "width": 448, "height": 252, "visual_tokens": 432},
                    {"frames": 2, "width": 224, "height": 112, "visual_tokens": 32})  # fmt: skip
    thought = Degraded("deadline", {"thinking_tokens": 1024}, {"thinking_tokens": 40})
    answer = Answer("Who?", "He", None, "stop", Usage(), Timings(), degraded=thought)
    merged = _degraded(look, [answer])
    assert merged is not None and merged["reason"] == "deadline"
    assert _shown(merged["used"]) == (
        "2 frames of 224x112 (32 visual tokens), 40 tokens of thinking"
    )
    assert _degraded(None, [replace(answer, degraded=None)]) is None


def test_a_deadline_is_kept_and_said(run: Run, base: list[object]) -> None:
    code, out, _ = run(*base, "--video", CLIP, "--deadline", 0.001, "--json")
    answer = json.loads(out)["answers"][0]
    assert code == 0
    assert (answer["finish_reason"], answer["answer"]) == ("deadline", "")


@pytest.mark.parametrize(
    ("args", "code", "kind"),
    [
        ([], 2, "UsageError"),
        (["--video", "a.mp4", "--image", "b.png"], 2, "UsageError"),
        (["--image", "b.png", "--start", 1], 2, "UsageError"),
        (["--camera", "0", "--frames", 4], 2, "UsageError"),
        (["--video", "a.mp4", "--seconds", 5], 2, "UsageError"),
        (["--video", "nowhere.mp4"], 3, "MediaNotFoundError"),
        (["--video", __file__], 4, "MediaError"),
        (["--image", CLIP.parent / "run.py"], 4, "MediaError"),
        (["--video", CLIP, "--model", "nowhere.gguf"], 3, "ModelNotFoundError"),
        (["--video", CLIP, "--gpu-layers", "some"], 2, "UsageError"),
        (["--video", CLIP, "--annotate", "nowhere/out.png"], 2, "UsageError"),
        (["--video", CLIP, "--max-tokens", 5000], 1, "ContextFullError"),
        (["--video", CLIP, "--start", 100], 4, "MediaError"),
        (["--rule", "Someone reads"], 2, "UsageError"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_word(
    run: Run, base: list[object], args: list[object], code: int, kind: str
) -> None:
    got, out, err = run(*base, *args, "--json")
    error = json.loads(out)["error"]
    assert (got, error["type"]) == (code, kind), err
    assert error["message"]
    assert "Traceback" not in err
    if kind != "UsageError":
        assert f"error: {error['message']}" in err
