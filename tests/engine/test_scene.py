"""A scene in unusual hands."""

from __future__ import annotations

import sys
import threading

import pytest

from miloco_edge import Budget, Clip, Engine
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.errors import EngineError
from miloco_edge.llama import Context, Interrupted


def test_a_scene_that_was_cut_short_has_no_logits(engine: Engine, clip: Clip) -> None:
    scene = engine.look(clip, budget=Budget(seconds=1e-6))
    with scene, pytest.raises(EngineError, match="deadline"):
        scene.logits("What?")


def test_logits_that_were_cancelled_are_an_error_of_ours(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(*_: object) -> None:
        raise Interrupted

    with engine.look(clip) as scene:
        monkeypatch.setattr(Context, "decode_tokens", cancelled)
        with pytest.raises(EngineError, match="cancelled"):
            scene.logits("What?")


def test_a_stream_that_was_read_ends_at_once_when_read_again(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        stream = scene.stream("What?", budget=Budget(answer_tokens=4))
        assert list(stream)
        again: list[object] = ["not read"]
        reader = threading.Thread(target=lambda: again.__setitem__(slice(None), stream))
        reader.daemon = True
        reader.start()
        reader.join(5)
        assert again == []


def test_it_is_cancelled_while_other_threads_ask(engine: Engine, clip: Clip) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    done = threading.Event()
    with engine.look(clip) as scene:

        def ask() -> None:
            while not done.is_set():
                scene._submit(lambda: None, Interrupt()).result()

        askers = [threading.Thread(target=ask) for _ in range(3)]
        try:
            for asker in askers:
                asker.start()
            for _ in range(2000):
                scene.cancel()
        finally:
            done.set()
            sys.setswitchinterval(interval)
            for asker in askers:
                asker.join()
