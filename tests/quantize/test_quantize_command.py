from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub.utils.tqdm import enable_progress_bars

from miloco_edge.cli.main import main
from tests.registry.conftest import cache as cache
from tests.registry.conftest import hub as hub
from tests.registry.hub_server import Hub


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


def test_a_dry_run_counts_the_types_of_both_files(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--out", tmp_path, "--recipe", "edge-x86", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "mmproj-tiny-edge-x86.gguf" in out
    assert "20 Q4_K, 3 Q6_K" in out and "24 Q5_K, 6 Q6_K" in out


def test_a_recipe_may_be_a_file(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "porch.toml"
    recipe.write_text('[text]\ndefault = "Q5_K"')
    out = tmp_path / "out"
    assert run(checkpoint, "--out", out, "--recipe", recipe, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recipe"] == "porch"
    assert sorted(path.name for path in out.iterdir()) == [
        "mmproj-tiny-bf16.gguf", "tiny-porch.gguf", "tiny-porch.manifest.json",
    ]  # fmt: skip
    recipe.write_text('[text]\ndefault = "Q5"')
    assert run(checkpoint, "--out", out, "--recipe", recipe) == 4
    assert "error: recipe 'porch': text: default: expected one of" in capsys.readouterr().err
    assert run(checkpoint, "--out", out, "--recipe", tmp_path / "none.toml") == 3


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


@pytest.fixture
def files(checkpoint: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


def test_a_repository_is_fetched_once_and_gives_its_name_and_commit(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = hub.add("someone/Camera-VL-2B", files, licence="apache-2.0")
    for _ in range(2):
        assert run("someone/Camera-VL-2B", "--out", tmp_path / "out", "--json") == 0
        document = json.loads(capsys.readouterr().out)
    assert document["source"]["revision"] == commit
    assert [output["file"] for output in document["outputs"]] == [
        "Camera-VL-2B-q4_0.gguf", "mmproj-Camera-VL-2B-bf16.gguf",
    ]  # fmt: skip
    assert len(hub.downloads("model.safetensors")) == 1


def test_where_no_bar_may_be_drawn_fetching_draws_none(
    hub: Hub,
    files: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enable_progress_bars()
    monkeypatch.setenv("TQDM_POSITION", "-1")  # as if stderr were a terminal
    hub.add("someone/Camera-VL-2B", files, licence="apache-2.0")
    assert run("someone/Camera-VL-2B", "--out", tmp_path / "out", "--json") == 0
    assert capsys.readouterr().err == ""


def test_offline_nothing_is_fetched(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("someone/Camera-VL-2B", files, licence="apache-2.0")
    assert run("someone/Camera-VL-2B", "--out", tmp_path / "out", "--offline") == 3
    assert not hub.downloads("model.safetensors")
    assert run("someone/Camera-VL-2B", "--out", tmp_path / "out") == 0
    assert run("someone/Camera-VL-2B", "--out", tmp_path / "out", "--offline") == 0


def test_a_licence_that_must_be_accepted_is_not_passed_over(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("someone/Camera-VL-2B", files, licence="research-only")
    assert run("someone/Camera-VL-2B", "--out", tmp_path / "out") == 1
    assert "miloco-edge pull someone/Camera-VL-2B" in capsys.readouterr().err
    assert not hub.downloads("model.safetensors")


def test_a_repository_that_is_not_there_is_not_found(hub: Hub, tmp_path: Path) -> None:
    assert run("someone/nothing", "--out", tmp_path / "out") == 3
