from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miloco_edge.cli.main import main


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    lines = []
    for i in range(6):
        pixels = draw.integers(0, 255, (84, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        lines.append(
            {"id": str(i), "task": "binary", "media": f"{i}.png", "question": "Is it reading?",
             "target": ("yes", "no")[i % 2], "category": ("reading", "phone")[i % 2]}
        )  # fmt: skip
    lines.append({"id": "s", "task": "temporal", "media": "0.png", "question": "When?",
                  "target": [0, 1]})  # fmt: skip
    path = tmp_path / "home.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def base(pair: Path, manifest: Path) -> list[str]:
    options = ["--context", 1024, "--threads", 1, "--max-tokens", 4, "--visual-tokens", 64]
    return ["eval", "--model", str(pair), "--manifest", str(manifest), *map(str, options)]


def run(capfd: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in args])
    code = ended.value.code
    return (code if isinstance(code, int) else 0, *capfd.readouterr())


def test_a_table(capfd: pytest.CaptureFixture[str], base: list[str]) -> None:
    code, out, err = run(capfd, *base)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == [
        "task", "measure", "%", "95", "%", "questions", "unread",
    ]  # fmt: skip
    assert any(line.startswith("yes or no by p_yes  balanced accuracy") for line in out.split("\n"))
    assert any(line.startswith("reading") for line in out.splitlines())


def test_the_document_the_page_and_the_journal(
    capfd: pytest.CaptureFixture[str], base: list[str], tmp_path: Path
) -> None:
    out, page = tmp_path / "r.json", tmp_path / "r.md"
    code, printed, err = run(capfd, *base, "--out", out, "--markdown", page, "--json")
    assert (code, err) == (0, "")
    document: dict[str, Any] = json.loads(printed)
    assert document == json.loads(out.read_text())
    assert list(document) == ["model", "manifest", "settings", "scores", "published"]
    assert document["model"]["file_type"] == "BF16"
    assert len(document["model"]["sha256"]) == 64
    assert document["manifest"]["items"] == 7
    assert document["settings"]["visual_tokens"] == 64
    scores = document["scores"]
    assert set(scores["answers"]["categories"]) == {"phone", "reading"}
    assert scores["answers"]["n"] == 6
    assert scores["temporal"]["miou"]["value"] == 0
    assert scores["point"] is scores["choice"] is scores["exact"] is None
    assert scores["look_s"]["n"] == 7 and scores["answer_s"]["p95"] > 0
    assert scores["thinking"] == {
        "think": False, "answers": 7, "thought": 0, "own_tags": None, "thought_share": 0.0,
        "own_tags_share": None,
    }  # fmt: skip
    assert document["published"][0]["rows"][0][0] == "Watch TV"
    text = page.read_text()
    assert "| reading | 3 | 3 |" in text and "*90.8*" in text
    assert "## Published: General capability" in text and "ScreenSpot-Pro" in text
    assert len((tmp_path / "r.journal.jsonl").read_text().splitlines()) == 7
    code, printed, _ = run(capfd, *base, "--out", out, "--json")
    assert json.loads(printed)["scores"] == scores, "the second time all answers are there"


def test_media_that_cannot_be_shown_are_named(
    capfd: pytest.CaptureFixture[str], base: list[str], tmp_path: Path
) -> None:
    (tmp_path / "3.png").write_text("no picture")
    code, out, err = run(capfd, *base, "--json")
    assert code == 0
    assert list(json.loads(out)["scores"]["refused"]) == ["3"]
    assert "3: " in err and "3.png" in err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--limit", "0"], 2, "--limit"),
        (["--out", "none/r.json"], 2, "expected a folder none, found none"),
        (["--manifest", "none.jsonl"], 3, "expected a manifest at none.jsonl"),
        (["--manifest", "bad.jsonl"], 4, "bad.jsonl, line 1: expected a JSON object"),
        (["--model", "none"], 3, "none"),
    ],
)
def test_what_is_wrong_is_said_before_the_run(
    capfd: pytest.CaptureFixture[str],
    base: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("nothing")
    got, out, err = run(capfd, *base, *args, "--json")
    assert got == code, err
    assert message in json.loads(out)["error"]["message"]
    assert message in err and "Traceback" not in err


def test_a_manifest_is_needed(capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capfd, "eval", "--model", "none")
    assert (code, "expected --manifest FILE.jsonl, got none" in err) == (2, True)


def test_ctrl_c_keeps_the_answers(base: list[str], tmp_path: Path) -> None:
    journal = tmp_path / "r.journal.jsonl"
    command = [*base, "--out", str(tmp_path / "r.json"), "--max-tokens", "500"]
    start = "import sys; from miloco_edge.cli.main import main; main(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", start, *command], stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes():
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"the answers so far are kept in {journal}" in err
    assert "Traceback" not in err
    assert not (tmp_path / "r.json").exists()
    assert 1 <= len(journal.read_text().splitlines()) < 7


def test_a_data_set_is_converted(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "charades_sta_test.txt").write_text(
        "3MSZA 24.3 30.4##person turn a light on.\nGONE1 1.0 2.0##person sits.\n"
    )
    (tmp_path / "3MSZA.mp4").touch()
    out = tmp_path / "charades.jsonl"
    code, printed, err = run(capfd, "eval", "convert", "charades-sta", tmp_path, out)
    assert (code, printed) == (0, f"{out}\n")
    assert err == "1 questions; 1 left out: media not there\n"
    code, printed, _ = run(capfd, "eval", "convert", "charades-sta", tmp_path, out, "--json")
    assert json.loads(printed) == {
        "out": str(out), "items": 1, "skipped": {"media not there": 1},
    }  # fmt: skip
    assert json.loads(out.read_text())["media"] == "3MSZA.mp4"
    code, _, err = run(capfd, "eval", "convert", "charades-sta", tmp_path, tmp_path / "no" / "o")
    assert (code, "expected a folder" in err) == (2, True)
    code, _, err = run(capfd, "eval", "convert", "charades-sta", tmp_path / "none", out)
    assert code == 3


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_manifest_may_have_a_name_that_is_not_in_utf8(
    capfd: pytest.CaptureFixture[str], base: list[str], manifest: Path, tmp_path: Path
) -> None:
    base[base.index("--manifest") + 1] = str(manifest.rename(tmp_path / os.fsdecode(b"\xe9.jsonl")))
    out, page = tmp_path / "r.json", tmp_path / "r.md"
    assert run(capfd, *base, "--limit", 2, "--out", out, "--markdown", page)[0] == 0
    assert Path(json.loads(out.read_text())["manifest"]["path"]).is_file()
    assert r"\udce9.jsonl" in page.read_text()


def test_options_before_a_command_of_its_own_are_not_left_aside(
    capfd: pytest.CaptureFixture[str], manifest: Path
) -> None:
    code, _, err = run(
        capfd, "eval", "--model", "demo", "calibrate", "--manifest", manifest, "--dry-run"
    )
    assert (code, "expected --model after calibrate" in err) == (2, True)
