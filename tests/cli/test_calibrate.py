from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miloco_edge.cli.main import main
from quantize.imatrix import read_imatrix
from quantize.moments import read_moments


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 255, (84, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def base(pair: Path, tmp_path: Path) -> list[str]:
    options = ["--out", tmp_path / "a.gguf", "--context", 1024, "--threads", 1]
    return ["calibrate", *map(str, [pair, *options, "--max-tokens", 4, "--think-tokens", 4])]


def run(capfd: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in args])
    code = ended.value.code
    return (code if isinstance(code, int) else 0, *capfd.readouterr())


def test_a_table_and_the_next_thing(
    capfd: pytest.CaptureFixture[str], base: list[str], clips: Path, tmp_path: Path
) -> None:
    code, out, err = run(capfd, *base, "--clips", clips, "--limit", 2)
    assert code == 0
    assert out.splitlines()[0].split("  ")[0] == "clips"
    assert out.splitlines()[1].split()[0] == "2"
    assert f"written to {tmp_path / 'a.gguf'}" in err
    code, _, err = run(capfd, *base, "--clips", clips, "--limit", 3)
    assert "2 of the clips were seen before" in err


def test_the_json_document(
    capfd: pytest.CaptureFixture[str], base: list[str], clips: Path, tmp_path: Path
) -> None:
    (clips / "broken.mp4").write_text("no video")
    code, out, _ = run(capfd, *base, "--clips", clips, "--visual-weight", 0.25, "--json")
    document = json.loads(out)
    assert code == 0
    assert list(document) == [
        "out", "state", "model", "clips", "rows", "tensors", "visual_weight", "seconds",
    ]  # fmt: skip
    assert document["clips"]["seen"] == 6
    assert list(document["clips"]["skipped"]) == ["broken.mp4"]
    assert document["model"]["file_type"] == "BF16"
    assert "visual weight 0.25" in read_imatrix(tmp_path / "a.gguf").datasets[0]


def test_runs_are_merged(
    capfd: pytest.CaptureFixture[str], base: list[str], clips: Path, pair: Path, tmp_path: Path
) -> None:
    for i in range(2):
        part = tmp_path / f"part{i}"
        part.mkdir()
        for name in (f"{3 * i + j}.png" for j in range(3)):
            (part / name).write_bytes((clips / name).read_bytes())
        more = ["--clips", part, "--out", tmp_path / f"{i}.gguf"]
        assert run(capfd, *base, *more)[0] == 0
    merge = [x for i in range(2) for x in ("--merge", tmp_path / f"{i}.gguf")]
    code, out, _ = run(capfd, *base, *merge, "--json")
    assert (code, json.loads(out)["clips"]["held"]) == (0, 6)
    assert run(capfd, *base[:3], tmp_path / "whole.gguf", *base[4:], "--clips", clips)[0] == 0
    merged, whole = (read_imatrix(tmp_path / f"{name}.gguf") for name in ("a", "whole"))
    for name, entry in whole.entries.items():
        np.testing.assert_array_equal(entry.sums, merged.entries[name].sums)


@pytest.mark.parametrize(
    ("args", "code", "kind"),
    [
        (["--clips", "nowhere"], 3, "NotFoundError"),
        (["--clips", "."], 4, "RefusedError"),
        ([], 4, "RefusedError"),
        (["--merge", "nowhere.gguf"], 3, "NotFoundError"),
        (["--merge", "damaged.npz"], 4, "ImatrixError"),
        (["--visual-weight", "1.5"], 2, "UsageError"),
        (["--out", "."], 2, "UsageError"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_word(
    capfd: pytest.CaptureFixture[str],
    base: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    code: int,
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.npz").write_text("no state")
    got, out, err = run(capfd, *base, *args, "--json")
    error = json.loads(out)["error"]
    assert (got, error["type"]) == (code, kind), err
    assert "Traceback" not in err


def test_ctrl_c_keeps_what_was_seen(base: list[str], clips: Path, tmp_path: Path) -> None:
    out, state = tmp_path / "a.gguf", tmp_path / "a.gguf.state.npz"
    command = [*base, "--clips", str(clips), "--save-every", "1", "--max-tokens", "400"]
    start = "import sys; from miloco_edge.cli.main import main; main(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", start, *command], stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not state.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"what was seen is kept in {state}" in err
    assert "Traceback" not in err
    assert not out.exists()
    assert 1 <= len(read_moments(state).clips) < 6
