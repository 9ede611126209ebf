"""Deadlines on the tiny pair: planned beforehand, kept, and told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from miloco_edge import Budget, Clip, Engine, Sampling
from miloco_edge.engine.gauge import shown
from miloco_edge.engine.local import LocalEngine
from miloco_edge.engine.look import Lookout
from miloco_edge.engine.pace import Pace
from miloco_edge.engine.plan import spread
from miloco_edge.engine.planner import Intent
from miloco_edge.engine.rates import Rates
from miloco_edge.llama import Sampler

RULES = ("Someone is reading", "The lamp is on")


SLOW = Rates(0.0, (1.0, 0.2, 0.0), (1.0, 0.1, 0.0), (2.0, 0.0), 512)
"""Ten thousand times slower than the tiny pair is: what is planned by it is never near its end."""


@pytest.fixture
def lookout(engine: Engine) -> Iterator[Lookout]:
    """The engine's, whose pace may be changed."""
    engine.rates()
    lookout = engine._loaded.lookout
    before = lookout.pace
    yield lookout
    lookout.pace = before


class Clock:
    """The clock on the wall, which tests put forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.skipped = 0.0
        for name in ("monotonic", "perf_counter"):
            real = getattr(time, name)
            monkeypatch.setattr(time, name, lambda real=real: real() + self.skipped)


@pytest.fixture
def fresh() -> Clip:
    """A clip that nobody has seen: six frames of noise at 640x360."""
    random = np.random.default_rng(time.time_ns())
    frames = [random.integers(0, 256, (360, 640, 3), dtype=np.uint8) for _ in range(6)]
    return Clip.from_frames(frames, fps=2.0)


def test_rates_are_measured_once_and_kept(engine: Engine, lookout: Lookout) -> None:
    rates, pace = engine.rates(), lookout.pace
    assert rates.vision_s([64]) > 0 and rates.prefill_s(64, 0) > 0 and rates.tokens_s(1, 0) > 0
    engine.rates()
    assert lookout.pace is pace


def test_thorough_figures_fit_a_small_context(engine: Engine, lookout: Lookout) -> None:
    free = engine._loaded.context.free_cells
    figures = engine.gauge()
    assert {figure.stage for figure in figures} == {"resize", "vision", "prefill", "token"}
    assert len([f for f in figures if f.stage == "vision"]) == 3
    assert len({f.depth for f in figures if f.stage == "token"}) == 2
    assert all(second > 0 for figure in figures for second in figure.seconds)
    assert engine._loaded.context.free_cells == free, "what it used is given back"
    assert [row[0] for row in shown(figures)] == [
        {"vision": "ViT", "token": "decode"}.get(f.stage, f.stage) for f in figures
    ]


def test_a_look_shows_less_where_time_is_short(
    engine: Engine, lookout: Lookout, fresh: Clip
) -> None:
    whole = engine.fit(fresh).visual_tokens
    lookout.pace = Pace(SLOW)
    budget = Budget(seconds=80)
    with engine.look(fresh, budget=budget, intent=Intent(rules=RULES)) as scene:
        assert scene.complete and scene.clip is not None and scene.clip.degraded is not None
        assert scene.clip.visual_tokens < whole
        assert scene.clip.degraded.reason == "deadline"
        asked, used = scene.clip.degraded.asked, scene.clip.degraded.used
        assert (asked["frames"], asked["visual_tokens"]) == (6, whole)
        assert used["visual_tokens"] == scene.clip.visual_tokens == scene.usage.visual_tokens
        assert used["frames"] == len(scene.clip.frames)
        assert (used["width"], used["height"]) == scene.clip.size
        assert scene.timings.predicted_s is not None and 10 < scene.timings.predicted_s < 80
        decided = scene.start_decide(RULES, budget=budget).result()
    assert all(decision.path != "none" for decision in decided)
    assert decided.timings.predicted_s is not None and decided.timings.predicted_s > 0


def test_a_slow_model_is_given_the_time_to_stop(
    engine: Engine, lookout: Lookout, clip: Clip
) -> None:
    budget = Budget(seconds=10, answer_tokens=1)
    with engine.look(clip, budget=Budget(visual_tokens=64)) as scene:
        lookout.pace = Pace(SLOW)
        for request in (scene.start_ask("Who?", budget=budget),
                        scene.start_decide(RULES, budget=budget),
                        engine.start_look(None, budget=budget)):  # fmt: skip
            assert request.interrupt.remaining() <= 9.0, "half of a token's 2 s are kept back"
            request.result()


def test_without_a_deadline_nothing_is_planned(
    engine: Engine, lookout: Lookout, fresh: Clip
) -> None:
    lookout.pace = Pace(SLOW)
    with engine.look(fresh) as scene:
        assert scene.clip is not None and scene.clip.degraded is None
        assert scene.timings.predicted_s is None


def test_a_visual_budget_of_the_callers_is_not_blamed_on_the_deadline(
    engine: Engine, lookout: Lookout, fresh: Clip
) -> None:
    lookout.pace = Pace(SLOW)
    with engine.look(fresh, budget=Budget(seconds=1e6, visual_tokens=200)) as scene:
        assert scene.clip is not None and scene.clip.degraded is not None
        assert scene.clip.degraded.reason == "visual_tokens"


def test_a_long_thought_is_planned_to_end(
    engine: Engine, lookout: Lookout, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = int(engine._loaded.model.tokenize("a", special=False)[0])
    with engine.look(clip, budget=Budget(visual_tokens=64)) as scene:
        lookout.pace = Pace(SLOW)
        monkeypatch.setattr(Sampler, "sample", lambda *_: token)
        budget = Budget(seconds=200, thinking_tokens=500, answer_tokens=4)
        answer = scene.ask("What?", budget=budget, think=True, sampling=Sampling())
    assert (answer.finish_reason, len(answer.text)) == ("length", 4)
    assert 16 <= answer.usage.thinking_tokens < 100, "at 2 s a token"
    assert answer.thinking_closed_by == "engine"
    assert answer.degraded is not None and answer.degraded.reason == "deadline"
    assert answer.degraded.asked == {"thinking_tokens": 500}
    assert answer.degraded.used == {"thinking_tokens": answer.usage.thinking_tokens}
    assert answer.timings.predicted_s is not None and 100 < answer.timings.predicted_s < 200


def test_an_answer_ends_before_its_deadline_not_after(
    engine: Engine, lookout: Lookout, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = int(engine._loaded.model.tokenize("a", special=False)[0])
    clock = Clock(monkeypatch)
    context = type(engine._loaded.context)
    real = context.decode_runs

    def slow(self: Any, runs: Any) -> Any:
        clock.skipped += 10
        return real(self, runs)

    with engine.look(clip) as scene:
        monkeypatch.setattr(Sampler, "sample", lambda *_: token)
        monkeypatch.setattr(context, "decode_runs", slow)
        began = time.perf_counter()
        answer = scene.ask("What?", budget=Budget(seconds=200), sampling=Sampling())
        assert time.perf_counter() - began < 200
    assert answer.finish_reason == "deadline" and len(answer.text) > 1
    assert answer.degraded is not None
    assert answer.degraded.asked == {"answer_tokens": 512}
    assert answer.degraded.used == {"answer_tokens": answer.usage.completion_tokens}


def test_pairs_are_left_out_when_the_machine_slows_down(
    engine: Engine, lookout: Lookout, fresh: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan was made for all pairs; the first takes most of the time there was for three."""
    lookout.pace = Pace(Rates(0.0, (50.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0), 512))
    clock, vision, encoded = Clock(monkeypatch), type(engine._loaded.vision), []
    real = vision.encode

    def slow(self: Any, frames: Any) -> Any:
        encoded.append(frames)
        clock.skipped += 240
        return real(self, frames)

    monkeypatch.setattr(vision, "encode", slow)
    monkeypatch.setattr(vision, "predict_seconds", lambda *_: 50.0)
    budget = Budget(seconds=300, answer_tokens=8, visual_tokens=192)
    intent = Intent(rules=RULES)
    with engine.start_look(fresh, budget=budget, intent=intent, keep=True).result() as scene:
        assert scene.complete and len(encoded) == 1
        assert scene.savings is not None and (scene.savings.late, scene.savings.static) == (2, 0)
        assert scene.clip is not None and scene.clip.degraded is not None
        assert np.array_equal(encoded[0][0], scene.clip.frames[-2]), "what is newest counts most"
        assert scene.clip.degraded.reason == "deadline"
        assert (scene.clip.degraded.asked["frames"], scene.clip.degraded.used["frames"]) == (6, 2)
        assert scene.usage.visual_tokens == scene.clip.degraded.used["visual_tokens"]
        assert all(decision.p_yes is not None for decision in scene.decide(RULES))
    monkeypatch.undo()
    budget = Budget(visual_tokens=192)
    with engine.start_look(fresh, budget=budget, keep=True).result() as scene:
        assert scene.savings is not None and scene.savings.late == 0, "with time it is seen whole"
        assert scene.clip is not None and scene.usage.visual_tokens == scene.clip.visual_tokens
    engine.forget()


def test_what_is_encoded_first_is_spread_over_the_clip() -> None:
    assert spread([0, 1, 2, 3, 4]) == [4, 0, 2, 1, 3]
    assert spread([7]) == [7]
    assert spread([]) == []
    for n in range(1, 40):
        assert sorted(spread(list(range(n)))) == list(range(n))


def test_nothing_is_measured_while_a_short_deadline_runs(
    engine: Engine, lookout: Lookout, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookout.pace = None
    monkeypatch.setattr(type(engine._loaded.vision), "predict_seconds", lambda *_: 10.0)
    with engine.look(clip, budget=Budget(seconds=59)) as scene:
        assert scene.complete and scene.timings.predicted_s is None
    assert lookout.pace is None
    monkeypatch.undo()
    with engine.look(clip, budget=Budget(seconds=1e6)) as scene:
        assert scene.timings.predicted_s is not None
    assert lookout.pace is not None


def test_a_window_is_predicted_as_a_whole(engine: Engine, fresh: Clip) -> None:
    local = LocalEngine(lambda: engine)
    seen = local.decide(fresh, RULES, budget=Budget(seconds=120, visual_tokens=192)).result()
    assert seen.timings.predicted_s is not None and seen.timings.predicted_s > 0
    assert seen.timings.total_s is not None and seen.timings.total_s < 120
    answer = local.ask(
        replace(fresh, source="again"), "Who?", budget=Budget(seconds=120, answer_tokens=4)
    ).result()
    assert answer.timings.predicted_s is not None and answer.timings.predicted_s > 0


def test_a_look_that_was_stopped_says_what_it_took(
    engine: Engine, lookout: Lookout, fresh: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookout.pace = None
    clock, vision, context = Clock(monkeypatch), type(engine._loaded.vision), type(lookout.context)
    encode, lay = vision.encode, context.decode_visual

    def slow(self: Any, frames: Any) -> Any:
        clock.skipped += 30
        return encode(self, frames)

    def slow_lay(self: Any, *arguments: Any) -> None:
        clock.skipped += 100
        lay(self, *arguments)

    monkeypatch.setattr(vision, "encode", slow)
    monkeypatch.setattr(context, "decode_visual", slow_lay)
    monkeypatch.setattr(vision, "predict_seconds", lambda *_: 30.0)
    with engine.look(fresh, budget=Budget(seconds=50, visual_tokens=192)) as scene:
        assert not scene.complete
        assert 30 <= (scene.timings.vision_s or 0) < 50 and (scene.timings.prefill_s or 0) < 1
    with engine.look(fresh, budget=Budget(seconds=150, visual_tokens=192)) as scene:
        assert not scene.complete
        assert 60 <= (scene.timings.vision_s or 0) < 90 and (scene.timings.prefill_s or 0) >= 100
