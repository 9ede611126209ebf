"""`serve` as a process: how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from miloco_edge.cli.main import cli
from miloco_edge.serve import app, run
from miloco_edge.serve.settings import ModelFacts


@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_who_stops_it_while_the_model_loads_gets_no_error(
    told: signal.Signals, code: int, pair: Path
) -> None:
    command = [sys.executable, "-m", "miloco_edge", "serve", "--model", str(pair), "--port", "0"]
    with subprocess.Popen(
        [*command, "--context", "1024", "--threads", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["listening"]
        server.send_signal(told)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (code, "")
    assert err.startswith(f"listening at {address}") and len(err.splitlines()) == 1


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[ModelFacts]:
    """What a server that is not begun would tell of its model."""
    told: list[ModelFacts] = []

    def create_app(engine: Any, facts: ModelFacts, *, hub: Any, **_: Any) -> None:
        told.append(facts)
        (engine if hub is None else hub).close()

    monkeypatch.setattr(app, "create_app", create_app)
    monkeypatch.setattr(run, "run", lambda *_, **__: None)
    return told


def a_home(folder: Path, *models: object) -> str:
    path = folder / "home.toml"
    refs = json.dumps([str(model) for model in models])
    path.write_text(
        f"model = {refs}\n[engine]\ncontext = 1536\n"
        '[camera.hall]\nsource = "rtsp://127.0.0.1/hall"\n[rule.red]\ntext = "A ball is red"\n'
    )
    return str(path)


def test_a_home_says_how_its_model_runs(pair: Path, tmp_path: Path, told: list[ModelFacts]) -> None:
    config = a_home(tmp_path, pair)
    for option in (["--threads", "2"], ["--mode", "live"], ["--context", "1024"]):
        result = CliRunner().invoke(cli, ["serve", "--config", config, *option])
        assert result.exit_code == 2 and f"{option[0]} without --config" in result.output
    for option in ([], ["--offline"]):  # no home needs the network
        result = CliRunner().invoke(cli, ["serve", "--config", config, *option])
        assert result.exit_code == 0, result.output
    assert [facts.context for facts in told] == [1536, 1536]


def test_a_model_that_may_be_elsewhere_is_said_to_be(
    pair: Path, tmp_path: Path, told: list[ModelFacts]
) -> None:
    server = "http://127.0.0.1:9/v1"
    for arguments in (
        ["--model", str(pair)],
        ["--model", server],
        ["--config", a_home(tmp_path, pair, server)],
    ):
        result = CliRunner().invoke(cli, ["serve", *arguments])
        assert result.exit_code == 0, result.output
    assert [facts.here for facts in told] == [True, False, False]
