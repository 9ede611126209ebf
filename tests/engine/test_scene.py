"""A scene in unusual hands."""

from __future__ import annotations

import threading

import pytest

from miloco_edge import Budget, Clip, Engine
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
