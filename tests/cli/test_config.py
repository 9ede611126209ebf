from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from miloco_edge.cli.config import config_path
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
        ("[infer]\nvisul-tokens = 3\n", "visul-tokens"),
        ("[infer.rules]\nlang = 'zh'\n", "expected an option of the command, got rules"),
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


def seen(path: Path, monkeypatch: pytest.MonkeyPatch, *args: str) -> dict[str, Any]:
    """What the command of `args` would be called with."""
    monkeypatch.setenv("MILOCO_EDGE_CONFIG", str(path))
    told: dict[str, Any] = {}

    def invoke(self: click.Command, ctx: click.Context) -> None:
        if isinstance(self, click.Group):
            real(self, ctx)
        else:
            told.update(ctx.params)

    real = click.Command.invoke
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(click.Command, "invoke", invoke)
        main(list(args))
    assert ended.value.code == 0
    return told


def test_options_are_named_as_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[infer]\nlang = "zh"\nmode = "live"\nask = "Who?"\nrule = ["The door is open"]\n'
        '[eval.calibrate]\nlang = "zh"\n[bench.diff]\ncheck = true\n'
    )
    assert seen(config, monkeypatch, "bench", "diff", "a.json", "b.json")["check"]
    told = seen(config, monkeypatch, "infer")
    assert (told["language"], told["economy"]) == ("zh", "live")
    assert (told["questions"], told["rules"]) == (("Who?",), ("The door is open",))
    monkeypatch.setenv("MILOCO_EDGE_INFER_LANG", "en")
    monkeypatch.setenv("MILOCO_EDGE_INFER_RULE", "Someone is reading\n有人在看书\n")
    monkeypatch.setenv("MILOCO_EDGE_INFER_IMAGE", "at 8:00.jpg\nb.jpg\n")
    monkeypatch.setenv("MILOCO_EDGE_EVAL_CALIBRATE_MODE", "live")
    told = seen(config, monkeypatch, "infer")
    assert told["language"] == "en"
    assert told["images"] == (Path("at 8:00.jpg"), Path("b.jpg"))
    assert told["rules"] == ("Someone is reading", "有人在看书")
    told = seen(config, monkeypatch, "eval", "calibrate", "--manifest", "a.jsonl")
    assert (told["language"], told["economy"]) == ("zh", "live")


@pytest.mark.parametrize("command", [("show",), ("bench", "diff", "b.json")])
def test_an_error_is_json_wherever_json_was_asked_for(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def ended() -> str:
        with pytest.raises(SystemExit) as end:
            main([*command, str(tmp_path / "none")])
        assert end.value.code == 3
        return capfd.readouterr().out

    assert ended() == ""
    with monkeypatch.context() as patched:
        patched.setenv(f"MILOCO_EDGE_{'_'.join(command[:2]).upper()}_JSON", "1")
        assert json.loads(ended())["error"]["type"]
    config = tmp_path / "config.toml"
    config.write_text(f"[{'.'.join(command[:2])}]\njson = true\n")
    monkeypatch.setenv("MILOCO_EDGE_CONFIG", str(config))
    assert json.loads(ended())["error"]["type"]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_it_is_looked_for_where_the_readme_says(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MILOCO_EDGE_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert config_path() == tmp_path / ".config" / "miloco-edge" / "config.toml"


def test_inner_commands_have_tables_and_variables(
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
    assert "[probe] expected an option of the command, got time-out" in ended(
        "camera", "probe", "0"
    )
    config.write_text("[camera.probe]\ntimeout = -1\n")
    assert "Invalid value for '--timeout'" in ended("camera", "probe", "0")
    config.write_text("")
    monkeypatch.setenv("MILOCO_EDGE_CAMERA_PROBE_TIMEOUT", "-1")
    assert "Invalid value for '--timeout'" in ended("camera", "probe", "0")
