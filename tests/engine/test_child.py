from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from miloco_edge import Clip, Engine, Turn
from miloco_edge.engine import child_process, child_wire
from miloco_edge.engine.child import ChildEngine
from miloco_edge.engine.child_limits import Limits
from miloco_edge.engine.child_quarantine import Quarantine
from miloco_edge.errors import (
    ClosedError,
    ContextFullError,
    EngineDownError,
    EngineError,
    ModelNotFoundError,
    QuarantinedError,
)
from miloco_edge.types import Budget

FAKE = (sys.executable, str(Path(__file__).with_name("fake_child.py")))


def a_clip(value: int, frames: int = 2) -> Clip:
    return Clip.from_frames([np.full((28, 56, 3), value, np.uint8)] * frames, 2.0)


def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def child() -> Iterator[ChildEngine]:
    child = ChildEngine("fake", command=FAKE, limits=Limits(overdue_s=0.5, backoff_s=(0, 0.2)))
    yield child
    child.close()


def test_frames_reach_the_child_and_decisions_come_back(child: ChildEngine) -> None:
    assert child.state == "unloaded" and child.pid is None
    seen = child.decide(a_clip(200), ["a", "b"]).result(20)
    assert [d.rule for d in seen.decisions] == ["a", "b"]
    assert seen.decisions[0].p_yes == pytest.approx(200 / 255)
    assert seen.usage.visual_tokens == 2 and seen.degraded is None
    assert child.state == "ready" and child.name == "fake"


def test_a_question_is_streamed_and_cancelled(child: ChildEngine) -> None:
    pieces: list[str] = []
    pending = child.ask(
        None, "Who?", emit=lambda p: pieces.append(p.text), history=[Turn("q", "a")]
    )
    assert pending.result(20).text == "hello" and pieces == ["he", "llo"]
    waiting = child.ask(a_clip(1), "wait")
    time.sleep(0.1)
    waiting.cancel()
    assert waiting.result(5).finish_reason == "cancelled"


def test_an_error_crosses_with_what_it_carries(child: ChildEngine) -> None:
    with pytest.raises(ContextFullError) as caught:
        child.decide(a_clip(1), ["refuse"]).result(20)
    assert (caught.value.needed, caught.value.hint) == (9, "raise --context")
    assert child.state == "ready", "an error is not a death"


def test_what_the_child_refuses_at_once_is_no_death(child: ChildEngine) -> None:
    child.load()
    with pytest.raises(EngineError, match="TypeError"):
        child.ask(None, "Who?", history=[cast(Turn, Budget())]).result(20)
    assert child.decide(a_clip(2), ["a"]).result(60).decisions
    assert child.restarts == 0


@pytest.mark.parametrize(
    ("deed", "word"),
    [("abort", "SIGABRT"), ("die", "code 3"), ("out_of_memory", "SIGABRT")],
)
def test_a_death_costs_one_window(child: ChildEngine, deed: str, word: str) -> None:
    child.load()
    first = child.pid
    with pytest.raises(EngineDownError, match=word) as caught:
        child.decide(a_clip(1), [deed]).result(30)
    assert "Extension modules" not in caught.value.cause, "its last words, not Python's dump"
    assert child.decide(a_clip(2), ["a"]).result(60).decisions[0].answer == "no"
    assert child.pid != first and child.restarts == 1


def test_a_kill_from_outside_costs_one_window(child: ChildEngine) -> None:
    child.load()
    pending = child.decide(a_clip(1), ["hang"], budget=Budget(seconds=60))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(EngineDownError, match="SIGKILL"):
        pending.result(60)
    assert child.decide(a_clip(2), ["a"]).result(60).decisions


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_what_all_processes_are_sent_is_the_parents_to_answer(sent: signal.Signals) -> None:
    """Ctrl-C, and SIGTERM from systemd: while Python starts, while it loads, while it answers."""
    child = ChildEngine("fake", command=FAKE, threads=1)
    try:
        pending = child.decide(a_clip(1), ["a"])
        until(lambda: child.pid is not None)
        first = child.pid
        assert first is not None
        os.kill(first, sent)
        assert pending.result(60).decisions
        os.kill(first, sent)
        assert child.decide(a_clip(2), ["a"]).result(60).decisions and child.pid == first
    finally:
        child.close()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert sent not in blocked, "this process still hears it"


@pytest.mark.parametrize("deed", ["hang", "hang_with_gil"])
def test_a_hang_is_ended(child: ChildEngine, deed: str) -> None:
    child.load()
    pid = child.pid
    assert pid is not None
    began = time.monotonic()
    with pytest.raises(EngineDownError, match="no progress"):
        child.decide(a_clip(1), [deed], budget=Budget(seconds=0.2)).result(60)
    assert time.monotonic() - began < 20
    assert not alive(pid)
    assert child.decide(a_clip(2), ["a"]).result(60).decisions


def test_nonsense_is_no_answer(child: ChildEngine) -> None:
    child.load()
    with pytest.raises(EngineDownError, match="talks nonsense"):
        child.decide(a_clip(1), ["nonsense"]).result(30)
    assert child.decide(a_clip(2), ["a"]).result(60).decisions


def test_what_cannot_be_sent_costs_itself_alone(
    child: ChildEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    child.load()
    with pytest.raises(TypeError, match="JSON"):
        child.ask(None, "Who?", top_logprobs=cast(int, np.int64(3))).result(20)

    def hold(clip: Clip) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(child_wire, "_hold", hold)
        with pytest.raises(EngineError, match="memory for a clip"):
            child.decide(a_clip(1), ["a"], budget=Budget(seconds=5)).result(20)
    assert child.decide(a_clip(1), ["a"]).result(20).decisions
    assert child.state == "ready" and child.restarts == 0


def test_what_a_full_disk_left_of_a_quarantine_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.json").write_text("")
    (tmp_path / "b.json").write_text("[]")
    (tmp_path / "c.json").write_text('{"cause": "it died"}')
    quarantine = Quarantine(tmp_path)
    assert quarantine.cause(a_clip(1)) is None and quarantine._causes == {"c": "it died"}
    assert caplog.text.count("expected a clip's cause") == 2


def test_silence_is_ended() -> None:
    child = ChildEngine("fake", command=FAKE, limits=Limits(silent_s=1.5))
    try:
        child.load()
        pending = child.decide(a_clip(1), ["hang_with_gil"])
        with pytest.raises(EngineDownError, match="no sign of life"):
            pending.result(60)
    finally:
        child.close()


def test_a_hung_child_that_is_told_much_does_not_hang_its_parent(
    child: ChildEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_DEAF_S", 1)
    child.load()
    first = child.decide(a_clip(1), ["hang_with_gil"])
    time.sleep(0.2)
    asked: list[Any] = []
    asker = threading.Thread(
        target=lambda: asked.append(child.ask(None, "x" * 1_000_000)), daemon=True
    )
    asker.start()
    asker.join(20)
    try:
        assert asked, "the question is handed over, or fails"
        for pending in (first, asked[0]):
            with pytest.raises(EngineDownError):
                pending.result(20)
    finally:
        if child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)


def test_a_clip_that_kills_twice_is_kept_out(tmp_path: Path) -> None:
    folder = tmp_path / "quarantine"
    limits = Limits(backoff_s=(0,))
    child = ChildEngine("fake", command=FAKE, limits=limits, quarantine=Quarantine(folder))
    try:
        for _ in range(2):
            with pytest.raises(EngineDownError):
                child.decide(a_clip(7), ["abort"]).result(60)
        until(lambda: list(folder.glob("*.json")))
        with pytest.raises(QuarantinedError, match="SIGABRT"):
            child.decide(a_clip(7), ["a"]).result(60)
        assert child.decide(a_clip(8), ["a"]).result(60).decisions, "others are not"
        (file,) = folder.glob("*.npz")
        with np.load(file) as held:
            assert (held["arr_0"] == 7).all() and len(held["times_s"]) == 2
    finally:
        child.close()
    after_a_restart = Quarantine(folder)
    assert "SIGABRT" in (after_a_restart.cause(a_clip(7)) or "")
    assert after_a_restart.cause(a_clip(8)) is None


def test_restarts_are_backed_off() -> None:
    child = ChildEngine("bad", command=FAKE, limits=Limits(backoff_s=(0.0, 0.0, 30.0)))
    try:
        with pytest.raises(EngineDownError, match="SIGABRT"):
            child.load()
        until(lambda: child.state == "down", 60)
        began = time.monotonic()
        with pytest.raises(EngineDownError):
            child.decide(a_clip(1), ["a"]).result(5)
        assert time.monotonic() - began < 1, "while it is down it says so at once"
        assert child.pid is None
    finally:
        child.close()


def test_a_model_that_is_not_there_is_said_as_it_is() -> None:
    child = ChildEngine("nothing", command=FAKE)
    try:
        with pytest.raises(ModelNotFoundError) as caught:
            child.load()
        assert caught.value.hint == "pull one"
    finally:
        child.close()


def test_a_child_that_grew_is_replaced_between_windows() -> None:
    limits = Limits(resident_bytes=96 << 20)
    child = ChildEngine("fake", command=FAKE, limits=limits)
    try:
        child.load()
        first = child.pid
        child.decide(a_clip(1), ["a"]).result(60)
        child.decide(a_clip(1), ["hoard"]).result(60)
        until(lambda: child.pid not in (first, None) and child.state == "ready")
        assert child.decide(a_clip(1), ["a"]).result(60).decisions, "and nothing was lost"
    finally:
        child.close()


def test_unload_ends_the_child_and_the_next_window_loads(child: ChildEngine) -> None:
    child.load()
    pid = child.pid
    assert pid is not None
    child.unload()
    until(lambda: child.state == "unloaded" and not alive(pid))
    assert child.decide(a_clip(1), ["a"]).result(60).decisions


def test_close_is_quick_and_final(child: ChildEngine) -> None:
    child.load()
    pid = child.pid
    assert pid is not None
    pending = child.decide(a_clip(1), ["hang"])
    began = time.monotonic()
    child.close()
    child.close()
    assert time.monotonic() - began < 1
    with pytest.raises(ClosedError):
        pending.result(1)
    with pytest.raises(ClosedError):
        child.decide(a_clip(1), ["a"])
    assert not alive(pid)


PARENT = """
import sys, time
from miloco_edge.engine.child import ChildEngine
child = ChildEngine("fake", command=sys.argv[1:3], threads=float(sys.argv[3]))
if sys.argv[3] == "0":
    child.load()
    child.ask(None, sys.argv[4])
else:
    child.ask(None, "x")
    while child.pid is None: time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize(("loading", "doing"), [("0", "Who?"), ("0", "hang"), ("3600", "")])
def test_no_orphan_is_left_by_kill_9(loading: str, doing: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *FAKE, loading, doing], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    time.sleep(0.3)
    assert alive(pid)
    parent.kill()
    parent.wait()
    until(lambda: not alive(pid), 10)


def test_nothing_grows(child: ChildEngine) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        child.decide(a_clip(1), ["a"]).result(60)
    before = open_descriptors()
    for i in range(100):
        child.decide(a_clip(i, frames=6), ["a"]).result(60)
    assert open_descriptors() <= before


def test_a_real_model_in_a_child_decides_as_it_does_here(
    engine: Engine, pair: Path, clip: Clip
) -> None:
    rules = ["Someone is reading", "The TV is on"]
    with engine.look(clip) as scene:
        here = scene.decide(rules)
        answer = scene.ask("What?", budget=Budget(answer_tokens=4))
    child = ChildEngine(pair, threads=1, context=2048)
    try:
        seen = child.decide(clip, rules).result(60)
        assert [d.rule for d in seen.decisions] == rules
        for there, same in zip(seen.decisions, here, strict=True):
            assert there.p_yes == pytest.approx(same.p_yes, abs=2e-3)
            assert there.path == same.path
        assert seen.usage.visual_tokens == 288
        asked = child.ask(clip, "What?", budget=Budget(answer_tokens=4)).result(60)
        assert asked.usage.prompt_tokens == answer.usage.prompt_tokens
        assert child.pid is not None
        os.kill(child.pid, signal.SIGABRT)
        until(lambda: child.restarts == 1 and child.state == "ready", 30)
        assert child.decide(clip, rules).result(60).decisions == seen.decisions
    finally:
        child.close()


def test_patience_is_as_long_as_the_most_patient_request() -> None:
    limits = Limits(overdue_s=10, unbounded_s=100)
    assert limits.overdue([], 1e9) is None
    assert limits.overdue([Budget(seconds=5)], 15) is None
    assert limits.overdue([Budget(seconds=5), Budget(seconds=1)], 15.1) == "no progress for 15 s"
    assert limits.overdue([Budget(seconds=5), Budget()], 99) is None
    assert Limits(backoff_s=(0, 1, 2)).wait_s(9) == 2 and Limits().wait_s(0) == 0
    assert limits.lost(ready=True, began_s=1e9, silent_s=30) is None
    assert limits.lost(ready=False, began_s=901, silent_s=0) == "no model after 901 s"
    assert limits.lost(ready=True, began_s=0, silent_s=31) == "no sign of life for 31 s"
