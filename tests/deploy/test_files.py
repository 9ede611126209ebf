"""What deploy/ names exists: files, options, routes. Nothing of it is built here."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from miloco_edge.cli.main import cli
from miloco_edge.hub import config, secrets
from miloco_edge.hub.settings import MqttSink
from miloco_edge.serve.app import routes

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "miloco-edge.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = "/etc/miloco-edge/home.toml"


def check_command(words: list[str]) -> None:
    """A command line of miloco-edge: the command is there, and so is every option."""
    context = click.Context(cli)
    command = cli.get_command(context, words[0])
    assert command is not None, words
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, words


def load_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", DEPLOY / "home-assistant" / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """What a Dockerfile says, line continuations joined."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines]


def check_installs(said: list[tuple[str, str]]) -> None:
    """Extras that there are, and the OpenCV that the project wants."""
    runs = " ".join(words for name, words in said if name == "RUN")
    for extras in re.findall(r"\[([a-z,]+)\]", runs):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    wanted = next(each for each in PROJECT["dependencies"] if each.startswith("opencv-python"))
    assert wanted.replace("opencv-python", "opencv-python-headless") in runs


def test_the_home_that_all_begin_with_is_one() -> None:
    home = config.read(DEPLOY / "home.toml", environ={})
    assert home.rules and isinstance(home.sinks["mqtt"], MqttSink)
    assert str(home.journal.path).startswith("/var/lib/miloco-edge/")


def test_the_unit_says_what_the_program_does() -> None:
    unit = UNIT.read_text()
    (line,) = re.findall(r"^ExecStart=(.+)$", unit, re.M)
    program, *words = shlex.split(line)
    assert Path(program).name in PROJECT["scripts"] and HOME in words
    check_command(words)
    assert re.search(r"^Type=notify$", unit, re.M) and re.search(r"^WatchdogSec=\d+$", unit, re.M)
    for name in re.findall(r"LoadCredential=([\w.]+):", unit):
        assert secrets.variable(name).startswith("MILOCO_EDGE_SINK_MQTT_")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    there = UNIT.read_text().replace("/opt/miloco-edge/bin/miloco-edge", sys.executable)
    (tmp_path / "miloco-edge.service").write_text(there)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "miloco-edge.service")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "miloco-edge" in line]
    assert ours == [], done.stderr


def test_the_image_is_made_of_what_there_is() -> None:
    said = instructions(DEPLOY / "docker" / "Dockerfile")
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines()}
    for name, words in said:
        if name == "COPY" and not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists() and source in kept, source
    check_installs(said)
    assert dict(said)["USER"] == "10001"
    assert json.loads(dict(said)["ENTRYPOINT"]) == ["miloco-edge"]
    check_command(json.loads(dict(said)["CMD"]))
    (health,) = (words for name, words in said if name == "HEALTHCHECK")
    (port, path) = re.findall(r"127\.0\.0\.1:(\d+)(/\w+)'", health)[0]
    assert path in {route.path for route in routes()} and dict(said)["EXPOSE"] == port


def test_compose_mounts_what_the_image_reads() -> None:
    folder = DEPLOY / "docker"
    stack = yaml.safe_load((folder / "compose.yaml").read_text())
    service = stack["services"]["miloco-edge"]
    context = folder / service["build"]["context"]
    assert (context / service["build"]["dockerfile"]).resolve() == folder / "Dockerfile"
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["user"].startswith("10001:")
    binds = dict(each.split(":")[:2] for each in service["volumes"])
    assert binds.pop("state") == "/var/lib/miloco-edge" and "state" in stack["volumes"]
    ((source, target),) = binds.items()
    assert (folder / source).is_file() and target == HOME
    command = json.loads(dict(instructions(folder / "Dockerfile"))["CMD"])
    assert target in command and "/run/secrets/keys.toml" in command
    assert set(service["secrets"]) == set(stack["secrets"])
    assert {"sink.mqtt.user", "sink.mqtt.password"} <= set(stack["secrets"]), "a login is both"
    assert service["ports"] == ["127.0.0.1:8001:8001"], "to this machine, unless someone opens it"
    commands = re.findall(r"^# docker compose run --rm miloco-edge (.+)$",
                          (folder / "compose.yaml").read_text(), re.M)  # fmt: skip
    assert commands
    for line in commands:
        check_command(shlex.split(line))


def test_the_app_of_home_assistant() -> None:
    folder = DEPLOY / "home-assistant"
    app = yaml.safe_load((folder / "config.yaml").read_text())
    assert {"name", "version", "slug", "description", "arch"} <= set(app)
    assert app["version"] == PROJECT["version"]
    assert set(app["options"]) == set(app["schema"])
    assert app["watchdog"] == "tcp://[HOST]:[PORT:8001]" and list(app["ports"]) == ["8001/tcp"]
    said = instructions(folder / "Dockerfile")
    check_installs(said)
    copied = [words.split()[0] for name, words in said if name == "COPY"]
    assert copied == ["miloco_edge-*.whl", "run.py"]
    run = load_run()
    check_command(run.SERVE[1:])
    assert app["map"][0]["path"] == "/config" and "/config/home.toml" in run.SERVE
    assert app["schema"]["api_key"] == "password", "needed: the server listens to others"
    check_command(run.pull({"pull": "demo", "accept_license": True})[1:])
    assert run.pull({"pull": "demo"}) == ["miloco-edge", "pull", "demo"], "who agrees says so"


def test_the_app_passes_options_and_the_brokers_login_on() -> None:
    run = load_run()
    login = {"host": "core-mosquitto", "username": "addons", "password": "hush"}
    found = run.environment({"api_key": "a key", "pull": ""}, login)
    assert secrets.find("sink.mqtt.user", found) == secrets.Secret("addons")
    assert secrets.find("sink.mqtt.password", found) == secrets.Secret("hush")
    assert found["MILOCO_EDGE_SERVE_API_KEY"] == "a key"
    assert run.environment({"api_key": ""}, None) == {}


def test_the_app_fetches_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run()
    told: list[list[str]] = []
    there = False

    def call(command: list[str], **_: object) -> int:
        check_command(command[1:])
        told.append(command)
        return 0 if there or "--offline" not in command else 3

    monkeypatch.setattr(subprocess, "call", call)
    assert run.have({"pull": "miloco-7b"}) == 0
    assert [command[-1] for command in told] == ["--offline", "miloco-7b"]
    there = True
    assert run.have({"pull": "miloco-7b"}) == 0
    assert told[2:] == [["miloco-edge", "pull", "miloco-7b", "--offline"]]


@pytest.fixture
def supervisor() -> Iterator[tuple[str, dict[str, Any]]]:
    """Home Assistant's Supervisor, as far as an app asks it for a broker."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            right = self.headers["Authorization"] == "Bearer token"
            body = json.dumps({"data": answers}).encode()
            self.send_response(200 if right and self.path == "/services/mqtt" else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


def test_the_app_asks_the_supervisor(
    supervisor: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, (address, answers) = load_run(), supervisor
    answers |= {"host": "core-mosquitto", "username": "addons", "password": "hush"}
    assert run.broker(address, "token") == answers
    assert run.broker(address, "another") is None
    assert "names no broker (400)" in capsys.readouterr().err
