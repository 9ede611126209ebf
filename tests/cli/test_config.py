from __future__ import annotations

import json
from pathlib import Path

import pytest

from miloco_edge.cli.main import main

CLIP = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"


def run(
    config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *args: object
) -> tuple[int | str | None, dict]:
    monkeypatch.setenv("MILOCO_EDGE_CONFIG", str(config))
    with pytest.raises(SystemExit) as ended:
        main(["infer", "--video", str(CLIP), "--max-tokens", "2", "--json", *map(str, args)])
    return ended.value.code, json.loads(capfd.readouterr().out)


def test_flag_over_environment_over_file_over_default(
    pair: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[infer]\nmodel = "{pair}"\nvisual-tokens = 288\nthreads = 1\n')
    code, out = run(config, monkeypatch, capfd)
    assert code == 0
    assert 144 < out["video"]["visual_tokens"] <= 288
    monkeypatch.setenv("MILOCO_EDGE_INFER_VISUAL_TOKENS", "144")
    _, out = run(config, monkeypatch, capfd)
    assert 72 < out["video"]["visual_tokens"] <= 144
    _, out = run(config, monkeypatch, capfd, "--visual-tokens", 72)
    assert out["video"]["visual_tokens"] <= 72


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[infer]\nvisul-tokens = 3\n", "visul_tokens"),
        ("infer = 3\n", "expected a table"),
        ("[infer\n", "expected TOML"),
    ],
)
def test_a_bad_file_is_a_usage_error(
    text: str,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    code, out = run(config, monkeypatch, capfd)
    assert code == 2
    assert word in out["error"]["message"]


def test_a_named_file_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out = run(tmp_path / "none.toml", monkeypatch, capfd)
    assert (code, out["error"]["type"]) == (3, "FileNotFoundError")


def test_options_are_named_as_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[journal]\nconfig = "a/home.toml"\n[camera.probe]\ntime-out = 1\n')
    monkeypatch.setenv("MILOCO_EDGE_CONFIG", str(config))

    def ended(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main([*arguments])
        return capfd.readouterr().err

    assert "at a/home.toml, found no file" in ended("journal")
    monkeypatch.setenv("MILOCO_EDGE_JOURNAL_CONFIG", "b/home.toml")
    assert "at b/home.toml, found no file" in ended("journal")
    assert "[probe] expected an option of the command, got time_out" in ended(
        "camera", "probe", "0"
    )
    config.write_text("[camera.probe]\ntimeout = -1\n")
    assert "Invalid value for '--timeout'" in ended("camera", "probe", "0")
    config.write_text("")
    monkeypatch.setenv("MILOCO_EDGE_CAMERA_PROBE_TIMEOUT", "-1")
    assert "Invalid value for '--timeout'" in ended("camera", "probe", "0")
