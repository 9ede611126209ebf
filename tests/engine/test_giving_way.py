"""What is held for later gives way to what is asked now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miloco_edge import Budget, Clip, Engine, Scene
from miloco_edge.engine.local import LocalEngine
from miloco_edge.errors import ContextFullError
from tests.engine.held import decodes as decodes

RULES = [f"Camera {i} shows person {i} standing in the dark room" for i in range(4)]


def test_system_prompts_give_way_to_what_is_asked(pair: Path) -> None:
    """Home Assistant's changes with each question: the time is in it."""
    with Engine.load(pair, threads=1, context=600) as engine:
        context = engine._loaded.context
        for minute in range(8):
            system = f"It is 12:{minute:02}. " + "The lamp is off. " * 6
            with engine.look(None, system=system) as scene:
                answer = scene.ask("Which lamps?", budget=Budget(answer_tokens=200))
            assert answer.finish_reason in ("stop", "length")
        engine.forget()
        assert sum(context._own_cells.values()) == 0 and not context._copy_of


def test_cells_that_are_shared_are_counted_until_the_last_goes(pair: Path) -> None:
    with Engine.load(pair, threads=1, context=600) as engine:
        first = engine.look(None, system="One. " * 20)
        context = engine._loaded.context
        free = context.free_cells
        engine.forget()  # the opening goes, the scene that was copied from it stays
        held = context.n_ctx - context.free_cells
        assert held >= first.usage.prompt_tokens and context.free_cells >= free
        first.close()
        engine.forget()
        assert context.free_cells == context.n_ctx


def test_what_is_kept_gives_way(pair: Path, clip: Clip) -> None:
    local = LocalEngine.of(pair, threads=1, context=2048)
    budget = Budget(answer_tokens=4)
    for i in range(3):
        shifted = Clip.from_frames([np.roll(f.pixels, i, 0) for f in clip.frames], 2.0)
        local.ask(shifted, "Who?", budget=budget).result()
    local.load()
    context = local._loaded()._loaded.context
    assert context.free_cells < 2048 - 2 * 288
    local.ask(None, "Tell a story.", budget=Budget(answer_tokens=1700)).result()
    local._loaded().forget()
    assert context.free_cells == 2048 and not context._copy_of
    local.close()


def test_sequences_that_nobody_uses_give_way_to_scenes(pair: Path, clip: Clip) -> None:
    small = Budget(visual_tokens=64)
    with Engine.load(pair, threads=1, context=1024, profile=False) as engine:
        context = engine._loaded.context
        engine.look().close()
        engine.start_look(clip, keep=True, budget=small).result().close()
        scenes: list[Scene] = []
        while context.free_sequences:
            scenes.append(engine.look())
        kept = engine.start_look(clip, keep=True, budget=small).result()
        assert kept.usage.cached_tokens == kept.usage.prompt_tokens, "it was there, and still is"
        with pytest.raises(ContextFullError, match="expected at most 0 more scenes"):
            for _ in range(4):
                scenes.append(engine.look())
        scenes.pop().close()
        assert kept.ask("Who?", budget=Budget(answer_tokens=1)).text is not None


def test_rules_go_together_where_a_kept_scene_would_part_them(
    pair: Path, clip: Clip, decodes: list[int]
) -> None:
    budget = Budget(visual_tokens=192)
    other = Clip.from_frames([np.roll(f.pixels, 9, 0) for f in clip.frames], 2.0)
    with Engine.load(pair, threads=1, context=1024, profile=False) as engine:
        context = engine._loaded.context
        with engine.look(other, budget=budget) as scene:
            alone = scene.decide(RULES)
            assert len(decodes) == 1
            engine.start_look(clip, keep=True, budget=budget).result().close()
            fill = engine.look(None, system="a" * (context.free_cells - 150))
            decodes.clear()
            assert [d.p_yes for d in scene.decide(RULES)] == pytest.approx(
                [d.p_yes for d in alone], abs=2e-3
            )
            assert len(decodes) == 1
            fill.close()
