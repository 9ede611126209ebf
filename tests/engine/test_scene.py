"""A scene in unusual hands."""

from __future__ import annotations

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
