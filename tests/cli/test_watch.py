from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from miloco_edge.cli.main import main
from miloco_edge.cli.output import Output
from miloco_edge.cli.watch import _Edited, _watch
from miloco_edge.hub import config
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from miloco_edge.hub.replay import replay
from miloco_edge.video.played import Pushed
from tests.hub.home import Camera, FakeEngine
from tests.hub.test_home_edits import HOME

SHAPE = (240, 320)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 5 fps: a checkered wall, on which something moves after three seconds."""
    path = tmp_path_factory.mktemp("recording") / "hall.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, SHAPE[::-1])
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    wall = np.repeat(((x // 20 + y // 20) % 2 * 120 + 60)[..., None], 3, -1).astype(np.uint8)
    random = np.random.default_rng(1)
    for i in range(30):
        frame = wall.copy()
        if i >= 15:
            frame[80:160, 8 * (i - 15) : 8 * (i - 15) + 90] = 255
        noise = random.integers(0, 6, frame.shape, np.uint8)
        writer.write(cv2.add(frame, noise))
    writer.release()
    return path


def a_home(folder: Path, pair: Path, recording: Path) -> Path:
    path = folder / "home.toml"
    path.write_text(
        f"""
model = "{pair}"
[engine]
context = 2048
threads = 1
visual_tokens = 128
[camera.hall]
source = "{recording}"
loop = true
interval_s = 1
seconds = 2
[rule.reading]
text = "Someone is reading"
cameras = ["hall"]
[sink.lines]
path = "events.jsonl"
"""
    )
    return path


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_rules_are_replayed_over_a_recording(
    pair: Path, recording: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = a_home(tmp_path, pair, recording)
    arguments = ["watch", "--config", str(home), "--replay", str(recording), "--json"]
    assert run(arguments) == 0
    first = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert first and first[0]["camera"] == "hall" and first[0]["rule"]["id"] == "reading"
    assert not (tmp_path / "journal.sqlite").exists(), "a rehearsal leaves nothing behind"
    assert not (tmp_path / "events.jsonl").exists()
    assert run(arguments[:-1]) == 0
    assert len(capfd.readouterr().out.splitlines()) == len(first), "the same, for people"
    assert run([*arguments, "--camera", "cellar"]) == 2


def test_a_rule_of_the_night_is_replayed_at_noon(
    pair: Path, recording: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = a_home(tmp_path, pair, recording)
    home.write_text(
        home.read_text().replace("[rule.reading]", '[rule.reading]\nschedule = ["03:00-03:10"]')
    )
    arguments = ["watch", "--config", str(home), "--replay", str(recording), "--json"]
    assert run([*arguments, "--at", "2026-11-21T03:01"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out.splitlines()[0])["time"].startswith("2026-11-21T03:01")
    assert "--at" not in told.err
    assert run([*arguments, "--at", "2026-11-21T12:00"]) == 0
    assert not capfd.readouterr().out
    assert run(arguments[:-1]) == 0
    assert "--at says when the recording began" in capfd.readouterr().err
    assert run(["watch", "--config", str(home), "--at", "03:01"]) == 2


def test_a_recording_shorter_than_a_window_is_one_window(recording: Path, tmp_path: Path) -> None:
    path, engine = tmp_path / "home.toml", FakeEngine()
    path.write_text(HOME.replace("seconds = 0.2", "seconds = 60"))
    list(replay(config.read(path), engine, recording, "hall"))
    assert [len(clip.frames) for clip, *_ in engine.shown] == [30]


def spawn(home: Path, stderr: int = subprocess.DEVNULL, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "miloco_edge", "watch", "--config", str(home), "--json", *options],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives
    )


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def first_event(watch: subprocess.Popen[str]) -> dict[str, Any]:
    assert watch.stdout is not None
    document: dict[str, Any] = json.loads(watch.stdout.readline())
    return document


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_kill_9_of_all_and_a_new_start(pair: Path, recording: Path, tmp_path: Path) -> None:
    home = a_home(tmp_path, pair, recording)
    with spawn(home) as watch:
        event = first_event(watch)
        (engine,) = children(watch.pid)
        os.kill(watch.pid, signal.SIGKILL)
        watch.wait()
    end = time.monotonic() + 5
    while not gone(engine):
        assert time.monotonic() < end, "the engine's process was left behind"
        time.sleep(0.05)
    kept = [e["id"] for e in query(tmp_path / "journal.sqlite")]
    assert event["id"] in kept, "what was told had been committed"
    with spawn(home) as watch:
        deadline = time.monotonic() + 60
        while len(list(query(tmp_path / "journal.sqlite", "decisions"))) < 3:
            assert time.monotonic() < deadline and watch.poll() is None
            time.sleep(0.2)
        watch.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert watch.wait(10) == 0
        assert time.monotonic() - began < 5
    assert [e["id"] for e in query(tmp_path / "journal.sqlite")][: len(kept)] == kept


ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 0)]


@pytest.mark.parametrize(("told", "code"), ENDS)
def test_who_stops_it_gets_no_error(
    told: signal.Signals, code: int, pair: Path, recording: Path, tmp_path: Path
) -> None:
    with spawn(a_home(tmp_path, pair, recording), subprocess.PIPE) as watch:
        first_event(watch)
        os.killpg(watch.pid, told)
        out, err = watch.communicate(timeout=30)
    assert (watch.returncode, err) == (code, "loading the model\n")
    assert all("error" not in json.loads(line) for line in out.splitlines())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize(("told", "code"), ENDS)
def test_who_stops_it_while_the_model_loads_gets_no_error(
    told: signal.Signals, code: int, pair: Path, recording: Path, tmp_path: Path
) -> None:
    with spawn(a_home(tmp_path, pair, recording), subprocess.PIPE) as watch:
        deadline = time.monotonic() + 60
        while not (loading := children(watch.pid)):
            assert time.monotonic() < deadline and watch.poll() is None
            time.sleep(0.01)
        os.killpg(watch.pid, told)
        out, err = watch.communicate(timeout=30)
    assert (watch.returncode, out, err) == (code, "", "loading the model\n")
    assert all(gone(child) for child in loading)


def test_an_edit_is_taken_over_beside_a_model_that_is_not_the_homes(
    pair: Path, recording: Path, tmp_path: Path
) -> None:
    home = a_home(tmp_path, pair, recording)
    text = home.read_text().replace(f'model = "{pair}"\n', "")
    home.write_text(text)
    with spawn(home, subprocess.PIPE, "--model", str(pair)) as watch:
        first_event(watch)
        home.write_text(text + '[rule.tv]\ntext = "The TV is on"\n')
        assert watch.stderr is not None
        said = [watch.stderr.readline() for _ in range(2)]
        watch.send_signal(signal.SIGTERM)
        watch.communicate(timeout=30)
    assert said == ["loading the model\n", f"{home} was taken over\n"]


def test_an_edit_is_taken_over_or_refused_with_its_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "home.toml"
    path.write_text(HOME)
    with Hub(config.read(path), FakeEngine(), sources={"hall": Pushed("hall")}) as hub:
        path.write_text(HOME + '[rule.empty]\ntext = "The room is empty"\n')
        edited = _Edited(hub)  # made once the model is loaded, which may take minutes
        edited.look(Output())
        assert set(hub.home.rules) == {"lit", "empty"}
        assert capfd.readouterr().err == f"{path} was taken over\n"
        path.write_text(HOME + "colour = 3\n")
        edited.look(Output())
        err = capfd.readouterr().err
        line = len(HOME.splitlines()) + 1
        assert f"error: {path}, line {line}: rule.lit.colour: expected one of " in err
        assert err.endswith("what was in force stays so\n")
        assert set(hub.home.rules) == {"lit", "empty"}
        edited.look(Output())
        assert capfd.readouterr().err == "", "it is said once"
        for error, said in (
            (PermissionError(errno.EACCES, "Permission denied", str(path)), "Permission denied"),
            (TimeoutError("got no answer"), "got no answer"),
        ):
            path.touch()
            monkeypatch.setattr(hub, "reload", Mock(side_effect=error))
            edited.look(Output())
            assert said in capfd.readouterr().err


def test_it_ends_once_nobody_reads_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "home.toml"
    path.write_text(HOME)
    monkeypatch.setattr(Output, "line", Mock(side_effect=BrokenPipeError))
    monkeypatch.setattr("miloco_edge.cli.watch._LOOK_AT_FILE_S", 8.0)
    monkeypatch.setattr(_Edited, "look", Mock(side_effect=AssertionError("it goes on")))
    with (
        Camera(level=200) as camera,
        Hub(config.read(path), FakeEngine(), sources={"hall": camera}) as hub,
        pytest.raises(BrokenPipeError),
    ):
        _watch(Output(as_json=True), hub)


def test_the_journal_is_queried(
    pair: Path, recording: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from miloco_edge.hub.journal import Decided, Journal
    from tests.hub.test_journal import YES, event

    home = a_home(tmp_path, pair, recording)
    assert run(["journal", "--config", str(home)]) == 3
    told = [event(i) for i in range(3)]
    journal = Journal(tmp_path / "journal.sqlite")
    journal.commit(told, [Decided(told[0].time, "hall", "reading", YES, 0.5)])
    journal.close()
    capfd.readouterr()
    assert run(["journal", "--config", str(home), "--since", "2h", "--limit", "2", "--json"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["id1", "id2"]
    assert run(["journal", "--config", str(home), "--decisions", "--rule", "reading"]) == 0
    assert "0.90" in capfd.readouterr().out
    assert run(["journal", "--config", str(home), "--until", "2h"]) == 0
    assert "Someone" not in capfd.readouterr().out
    assert run(["journal", "--config", str(home), "--since", "soon"]) == 2
    assert run(["journal", "--config", str(home), "--since", "8:00:30"]) == 0


def test_the_live_view_shows_what_there_is() -> None:
    from rich.console import Console

    from miloco_edge.cli.watch_view import view
    from miloco_edge.hub.overload import LEVELS
    from miloco_edge.hub.scheduler import Counts
    from miloco_edge.hub.status import RuleStatus, Status, ViewStatus
    from miloco_edge.video.feed import FeedStatus
    from tests.hub.test_journal import YES, event

    rules = (
        RuleStatus("reading", "Someone is [reading]", True, YES),
        RuleStatus("tv", "The TV is on", False, None),
    )
    seen = ViewStatus("hall", "sofa", FeedStatus("live"), "look:motion", {}, 1.25, rules)
    lost = FeedStatus("lost", error="http://[fd00::7]/: no answer")
    status = Status(
        "demo",
        "ready",
        (seen, ViewStatus("porch", None, lost, None, {}, None, rules[1:])),
        1,
        2,
        Counts(),
        0.5,
        LEVELS[1],
        1234,
        "disk is full",
        {"mqtt": "no"},
    )
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(view(status, [event(1)]))
    text = console.export_text()
    console.file.close()
    for shown in (
        "hall/sofa", "Someone is [reading]", "0.90", "1.2 s", "look:motion", "live", "reading: on",
        "load 50%", "1234 tokens", "frames x0.5", "disk is full", "sink mqtt: no",
        "http://[fd00::7]/: no answer",
    ):  # fmt: skip
        assert shown in text, shown
