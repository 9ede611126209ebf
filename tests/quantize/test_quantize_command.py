from __future__ import annotations

import json
from pathlib import Path

import pytest

from miloco_edge.cli.main import main


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as raised:
        main(["quantize", *map(str, arguments)])
    return int(raised.value.code or 0)


def test_it_writes_the_pair_and_says_so(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--out", tmp_path, "--recipe", "q8_0") == 0
    out, err = capsys.readouterr()
    assert "tiny-q8_0.gguf" in out and "mmproj-tiny-bf16.gguf" in out
    assert f"written to {tmp_path}" in err
    assert len(list(tmp_path.iterdir())) == 3


def test_json_is_the_manifest(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--out", tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "tiny-q4_0.manifest.json").read_text())


def test_a_dry_run_writes_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--out", tmp_path, "--dry-run") == 0
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_failures_have_their_exit_codes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--recipe", "q9_9", "--out", tmp_path) == 4
    assert run(tmp_path / "nowhere", "--out", tmp_path) == 3
    assert run(checkpoint, "--threads", "0", "--out", tmp_path) == 2
    capsys.readouterr()
    assert run(checkpoint, "--recipe", "q9_9", "--out", tmp_path, "--json") == 4
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["type"] == "RecipeError"
    assert err.startswith("error: recipe 'q9_9': expected one of")
    assert "hint: " in err
