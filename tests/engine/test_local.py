from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from miloco_edge import Clip, Engine
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.local import LocalEngine
from miloco_edge.engine.pace import Pace
from miloco_edge.engine.rates import Stage
from miloco_edge.errors import ClosedError, ContextFullError
from miloco_edge.llama import Context
from miloco_edge.types import Answer, Budget, Decision, Sampling

RULES = ["Someone is reading", "The TV is on"]


def p_yes(decisions: Sequence[Decision]) -> Any:
    """To compare with: where cells lie in the cache changes the rounding of sums over them."""
    return pytest.approx([decision.p_yes for decision in decisions], abs=2e-3)


@pytest.fixture
def local(pair: Path) -> Iterator[LocalEngine]:
    local = LocalEngine.of(pair, threads=1, context=2048)
    yield local
    local.close()


def test_it_loads_when_it_is_needed(local: LocalEngine, engine: Engine, clip: Clip) -> None:
    assert local.state == "unloaded"
    seen = local.decide(clip, RULES).result()
    with engine.look(clip) as scene:
        assert [d.p_yes for d in scene.decide(RULES)] == p_yes(seen.decisions)
    assert local.state == "ready" and local.name == engine.files.name
    assert seen.usage.visual_tokens == 288 and seen.timings.total_s is not None
    local.unload()
    assert local.state == "unloaded"
    assert local.decide(clip, RULES).result().decisions == seen.decisions


def test_a_deadline_covers_look_and_decisions(local: LocalEngine, clip: Clip) -> None:
    local.load()
    seen = local.decide(clip, RULES, budget=Budget(seconds=1e-6)).result()
    assert [d.reason for d in seen.decisions] == ["deadline"] * 2


class Gate:
    """Holds the first visual slice of a look until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        real = Context.decode_visual

        def slow(context: Any, *arguments: Any) -> None:
            if not self.reached.is_set():
                self.reached.set()
                assert self.open.wait(10)
            real(context, *arguments)

        monkeypatch.setattr(Context, "decode_visual", slow)


def test_a_question_overtakes_between_two_slices(
    local: LocalEngine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = local.decide(clip, RULES).result().decisions
    order: list[str] = []
    gate = Gate(monkeypatch)
    first = local.decide(clip, RULES)
    assert gate.reached.wait(10)
    second = local.decide(clip, RULES)
    question = local.ask(None, "Who?", budget=Budget(answer_tokens=4))
    for name, pending in (("first", first), ("second", second), ("question", question)):
        future: Any = pending.future
        future.add_done_callback(lambda _, name=name: order.append(name))
    time.sleep(0.1)
    gate.open.set()
    assert isinstance(question.result(30), Answer)
    for window in (first, second):
        assert [d.p_yes for d in window.result(30).decisions] == p_yes(expected)
    assert order.index("question") < order.index("second")


def test_a_question_cannot_be_cut_short_by_what_it_overtook(
    local: LocalEngine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.decide(clip, RULES).result()  # from now on its pictures are known
    gate = Gate(monkeypatch)
    end = time.monotonic() + 3
    late = local.decide(clip, RULES, budget=Budget(seconds=3))
    assert gate.reached.wait(2.5)
    question = local.ask(
        None,
        "Who?",
        budget=Budget(answer_tokens=40),
        emit=lambda _: time.sleep(max(0.0, end + 0.2 - time.monotonic())),
    )
    gate.open.set()
    assert question.result(60).finish_reason in ("stop", "length"), "not the other's deadline"
    assert {d.reason for d in late.result(60).decisions} == {"deadline"}


def test_what_overtakes_is_not_taken_for_a_slow_machine(
    local: LocalEngine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.load()
    observed: list[tuple[str, float]] = []
    real = Pace.observe

    def observe(pace: Pace, stage: Stage, predicted_s: float, actual_s: float) -> None:
        observed.append((stage, actual_s))
        real(pace, stage, predicted_s, actual_s)

    monkeypatch.setattr(Pace, "observe", observe)
    gate = Gate(monkeypatch)
    window = local.decide(clip, RULES)
    assert gate.reached.wait(10)
    worker = local._loaded()._worker
    overtaking = worker.submit(lambda: time.sleep(1.5), Interrupt(), urgent=True)
    gate.open.set()
    overtaking.future.result(30)
    window.result(30)
    assert {"prefill", "decide"} <= {stage for stage, _ in observed}
    assert max(took for stage, took in observed if stage in ("prefill", "decide")) < 1.5


def test_two_that_keep_the_same_clip_leave_nothing_behind(
    local: LocalEngine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.load()
    engine = local._loaded()
    context = engine._loaded.context
    gate = Gate(monkeypatch)
    first = engine.start_look(clip, keep=True)
    assert gate.reached.wait(10)
    second = engine.start_look(clip, keep=True, urgent=True)
    gate.open.set()
    for request in (first, second):
        request.result().close()
    engine.forget()
    assert context.free_cells == 2048 and context.free_sequences == 64


def test_what_waits_and_what_runs_is_cancelled(
    local: LocalEngine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.load()
    gate = Gate(monkeypatch)
    running, waiting = local.decide(clip, RULES), local.decide(clip, RULES)
    assert gate.reached.wait(10)
    running.cancel()
    waiting.cancel()
    gate.open.set()
    for pending in (running, waiting):
        assert {d.reason for d in pending.result(10).decisions} == {"cancelled"}


def test_close_ends_what_is_under_way(local: LocalEngine, clip: Clip) -> None:
    local.load()
    pending = local.ask(clip, "Who?", budget=Budget(answer_tokens=500))
    began = time.monotonic()
    local.close()
    local.close()
    assert time.monotonic() - began < 2
    assert pending.future.done()
    with pytest.raises(ClosedError):
        local.decide(clip, RULES)


def test_a_clip_that_was_asked_about_is_not_looked_at_again(local: LocalEngine, clip: Clip) -> None:
    budget = Budget(answer_tokens=6)
    greedy = Sampling(temperature=0)
    first = local.ask(clip, "Who?", budget=budget, sampling=greedy).result()
    again = local.ask(clip, "Who?", budget=budget, sampling=greedy).result()
    assert again.text == first.text
    assert first.timings.vision_s and again.timings.vision_s == 0
    assert again.usage.cached_tokens >= 288 > first.usage.cached_tokens
    assert again.usage.prompt_tokens == first.usage.prompt_tokens
    other = local.ask(clip, "Who?", budget=budget, system="Be brief.").result()
    assert other.usage.cached_tokens < 288, "another system prompt is another scene"


def test_unload_waits_for_what_is_under_way(
    local: LocalEngine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.load()
    gate = Gate(monkeypatch)
    pending = local.decide(clip, RULES)
    assert gate.reached.wait(10)
    local.unload()
    assert local.state == "ready"
    gate.open.set()
    assert "cancelled" not in {d.reason for d in pending.result(30).decisions}
    end = time.monotonic() + 30
    while local.state != "unloaded":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_model_that_cannot_be_measured_is_not_kept(
    local: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: Engine) -> None:
        raise ContextFullError(1, 0)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "rates", fail)
        with pytest.raises(ContextFullError):
            local.load()
    assert local.state == "unloaded"
    local.load()
    assert local.state == "ready" and local.name
