from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miloco_edge import AsyncEngine, Budget, Clip, Engine, Sampling, Turn
from miloco_edge.engine import scene as scene_module
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.errors import ClosedError, ContextFullError, ModelMismatchError
from miloco_edge.llama import Sampler, log_softmax

SHORT = Budget(answer_tokens=16)
GREEDY = Sampling()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    a, b = log_softmax(p), log_softmax(q)
    return float((np.exp(a) * (a - b)).sum())


class Script:
    """Makes the sampler choose given tokens, to put any words into the model's mouth."""

    def __init__(self, engine: Engine, *texts: str) -> None:
        model = engine._loaded.model
        self.tokens = [int(t) for text in texts for t in model.tokenize(text, special=True)]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = iter(self.tokens)
        monkeypatch.setattr(Sampler, "sample", lambda *_: next(tokens))


def test_an_answer_and_what_it_cost(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        answer = scene.ask("What is it?", budget=SHORT, sampling=GREEDY, top_logprobs=3)
        assert scene.usage.visual_tokens == 2 * 144
    assert answer.question == "What is it?"
    assert answer.finish_reason in {"stop", "length"}
    assert answer.thinking is None
    assert 0 < answer.usage.completion_tokens <= 16
    assert answer.usage.prompt_tokens > answer.usage.visual_tokens == 288
    assert answer.logprobs is not None
    assert len(answer.logprobs) == answer.usage.completion_tokens
    first = answer.logprobs[0]
    assert first.id == first.top[0].id, "greedy takes the likeliest"
    assert len(first.top) == 3
    timings = answer.timings
    assert timings.total_s is not None and timings.first_token_s is not None
    assert timings.total_s >= timings.first_token_s > 0


def test_a_second_question_costs_its_suffix_alone(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, vision = engine._loaded.context, engine._loaded.vision
    with engine.look(clip) as scene:
        first = scene.ask("Who is there?", budget=SHORT, sampling=GREEDY)
        decoded: list[int] = []
        real = type(context)._decode

        def count(self: Any, owners: Any, positions: Any, *rest: Any, **named: Any) -> None:
            decoded.append(positions.shape[-1])
            real(self, owners, positions, *rest, **named)

        monkeypatch.setattr(type(context), "_decode", count)
        monkeypatch.setattr(type(vision), "encode", lambda *_: pytest.fail("the ViT ran again"))
        second = scene.ask("What is it?", budget=SHORT, sampling=GREEDY)
        monkeypatch.undo()
        again = scene.logits("What is it?")[0]
    assert first.usage.cached_tokens < second.usage.cached_tokens
    assert second.usage.cached_tokens == second.usage.prompt_tokens - decoded[0]
    assert decoded[0] < 40

    with engine.look(clip) as scene:
        fresh = scene.ask("What is it?", budget=SHORT, sampling=GREEDY)
        assert kl(scene.logits("What is it?")[0], again) < 0.001
    assert fresh.text == second.text


def test_pictures_that_were_seen_before_need_no_vit(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.look(clip).close()
    hits = engine._loaded.lookout.embeddings.hits
    monkeypatch.setattr(type(engine._loaded.vision), "encode", lambda *_: pytest.fail("ViT"))
    engine.look(clip).close()
    assert engine._loaded.lookout.embeddings.hits == hits + 2


def test_pictures_apart_and_no_pictures(engine: Engine, clip: Clip) -> None:
    apart = Clip.from_images([frame.pixels for frame in clip.frames][:2])
    with engine.look(apart) as scene:
        assert scene.usage.visual_tokens == 2 * 64
        assert scene.ask("What?", budget=SHORT).usage.prompt_tokens > 128
    with engine.look() as scene:
        assert scene.usage.visual_tokens == 0
        assert scene.ask("What?", budget=SHORT).usage.completion_tokens > 0


def test_a_conversation_is_carried(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        alone = scene.ask("And now?", budget=SHORT, sampling=GREEDY)
        turns = [Turn("Who is there?", "A man in a red shirt.")]
        after = scene.ask("And now?", budget=SHORT, sampling=GREEDY, history=turns)
    assert after.usage.prompt_tokens > alone.usage.prompt_tokens + 10


def test_thinking_is_closed_at_its_budget(engine: Engine, clip: Clip) -> None:
    budget = Budget(thinking_tokens=8, answer_tokens=12)
    with engine.look(clip) as scene:
        answer = scene.ask("What?", budget=budget, think=True, sampling=Sampling(1.0, seed=1))
    assert answer.usage.thinking_tokens == 8
    assert answer.thinking
    assert 8 < answer.usage.completion_tokens <= 20
    assert (answer.thinking_opened_by, answer.thinking_closed_by) == (None, "engine")


def test_no_thinking_budget_means_an_empty_thought(engine: Engine, clip: Clip) -> None:
    budget = Budget(thinking_tokens=0, answer_tokens=5)
    with engine.look(clip) as scene:
        answer = scene.ask("What?", budget=budget, think=True, sampling=GREEDY)
    assert (answer.thinking, answer.usage.thinking_tokens) == (None, 0)
    assert (answer.thinking_opened_by, answer.thinking_closed_by) == ("engine", "engine")
    assert not answer.thought
    assert answer.usage.completion_tokens > 0


def test_thinking_and_answer_are_told_apart(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(engine, "<think>", "hello", "</think>", "\n\nyes", "<|im_end|>").install(monkeypatch)
    with engine.look(clip) as scene:
        stream = scene.stream("What?", think=True)
        pieces = list(stream)
    assert "".join(p.text for p in pieces if p.thinking) == "hello"
    assert "".join(p.text for p in pieces if not p.thinking) == "yes"
    assert (stream.answer.thinking, stream.answer.text) == ("hello", "yes")
    assert stream.answer.finish_reason == "stop"
    assert stream.answer.thinking_opened_by == stream.answer.thinking_closed_by == "model"


def test_a_thought_under_no_think_is_taken_back(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(engine, "<think>", "hello", "yes", "<|im_end|>").install(monkeypatch)
    with engine.look(clip) as scene:
        stream = scene.stream("What?")
        assert [p.text for p in stream] == ["yes"]
    assert (stream.answer.thinking, stream.answer.text) == (None, "yes")
    assert stream.answer.usage.thinking_tokens == 0
    assert stream.answer.thought
    assert stream.answer.thinking_opened_by == "model"
    assert stream.answer.thinking_closed_by == "engine"


def test_a_thought_that_ends_the_turn_is_followed_by_an_answer(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(engine, "<think>", "hello", "<|im_end|>", "yes", "<|im_end|>").install(monkeypatch)
    with engine.look(clip) as scene:
        answer = scene.ask("What?", think=True)
    assert (answer.thinking, answer.text) == ("hello", "yes")
    assert (answer.thinking_opened_by, answer.thinking_closed_by) == ("model", "engine")


def test_a_deadline_that_has_passed_is_said_not_guessed(engine: Engine, clip: Clip) -> None:
    fresh = Clip.from_frames([255 - f.pixels for f in clip.frames], fps=2.0)
    with engine.look(fresh, budget=Budget(seconds=1e-6)) as scene:
        assert not scene.complete
        answer = scene.ask("What?")
    assert (answer.text, answer.finish_reason) == ("", "deadline")


def test_a_vit_call_that_will_not_fit_is_not_begun(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = type(engine._loaded.vision)
    engine.rates()  # measures with the ViT
    monkeypatch.setattr(vision, "predict_seconds", lambda *_: 60.0)
    monkeypatch.setattr(vision, "encode", lambda *_: pytest.fail("begun"))
    fresh = Clip.from_frames([f.pixels[::-1].copy() for f in clip.frames], fps=2.0)
    with engine.look(fresh, budget=Budget(seconds=30)) as scene:
        assert scene.ask("What?").finish_reason == "deadline"


def test_a_deadline_ends_an_answer_midway(engine: Engine, clip: Clip, never_ends: None) -> None:
    with engine.look(clip) as scene:
        started = time.perf_counter()
        budget = Budget(seconds=0.3, answer_tokens=100_000 // 64)
        answer = scene.ask("What?", budget=budget)
        assert 0.25 < time.perf_counter() - started < 0.8
    assert answer.finish_reason == "deadline"
    assert answer.usage.completion_tokens > 1


@pytest.fixture
def never_ends(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never ends its turn, at a pace that a test can follow."""
    token = int(engine._loaded.model.tokenize("a", special=False)[0])

    def sample(*_: Any) -> int:
        time.sleep(0.002)
        return token

    monkeypatch.setattr(Sampler, "sample", sample)


def test_cancelled_from_another_thread_it_stops_and_goes_on(
    engine: Engine, clip: Clip, never_ends: None
) -> None:
    with engine.look(clip) as scene:
        stream = scene.stream("What?", budget=Budget(answer_tokens=1500))
        threading.Timer(0.1, stream.cancel).start()
        started = time.perf_counter()
        said = "".join(piece.text for piece in stream)
        assert time.perf_counter() - started < 1
        assert stream.answer.finish_reason == "cancelled"
        assert stream.answer.text == said
        assert scene.ask("What?", budget=SHORT).finish_reason == "length"


def test_leaving_a_stream_early_cancels_it(engine: Engine, clip: Clip, never_ends: None) -> None:
    with engine.look(clip) as scene:
        stream = scene.stream("What?", budget=Budget(answer_tokens=1500))
        for _ in stream:
            break
        gc.collect()
        assert stream.answer.finish_reason == "cancelled"


def test_any_thread_may_ask(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        alone = scene.ask("What?", budget=SHORT, sampling=GREEDY).text
        texts: list[str] = []
        threads = [
            threading.Thread(
                target=lambda: texts.append(scene.ask("What?", budget=SHORT, sampling=GREEDY).text)
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == [alone] * 8


def test_smart_home_answers_are_json(engine: Engine, clip: Clip) -> None:
    for language in ("en", "zh"):
        with engine.look(clip, smart_home=True, language=language) as scene:
            answer = scene.ask("Is someone there?", budget=Budget(answer_tokens=600))
        if answer.finish_reason == "stop":
            assert set(json.loads(answer.text)) == {"result"}
        assert answer.text.startswith('{"result": "')


def test_prompt_and_budgets_must_fit(engine: Engine, clip: Clip) -> None:
    with engine.look(clip) as scene:
        with pytest.raises(ContextFullError, match="got") as caught:
            scene.ask("What?", budget=Budget(answer_tokens=5000))
        assert caught.value.hint
        assert scene.ask("What?", budget=SHORT).text is not None


def test_scenes_give_their_cells_back(engine: Engine, clip: Clip) -> None:
    cells = engine._loaded.context._own_cells

    def held() -> int:
        engine._worker.submit(int, Interrupt()).result()
        return sum(cells.values())

    engine.look(clip).close()
    before = held()
    scene = engine.look(clip)
    assert held() == before + 288
    scene.close()
    scene.close()
    assert held() == before
    forgotten = engine.look(clip)
    del forgotten
    gc.collect()
    assert held() == before
    with pytest.raises(ClosedError):
        scene.ask("What?")


def test_closing_twice_and_asking_after(pair: Path, clip: Clip) -> None:
    engine = Engine.load(pair, context=512)
    scene = engine.look(clip)
    engine.close()
    engine.close()
    scene.close()
    with pytest.raises(ClosedError):
        engine.look(clip)
    orphan = replace(clip, fps=1.0)
    with pytest.raises(ClosedError):
        engine.look(orphan)


def test_closing_while_an_answer_is_under_way(pair: Path, clip: Clip, never_ends: None) -> None:
    engine = Engine.load(pair, context=2048)
    scene = engine.look(clip)
    streams = [scene.stream("What?", budget=Budget(answer_tokens=1500)) for _ in range(4)]
    pieces = iter(streams[0])
    next(pieces)
    started = time.perf_counter()
    engine.close()
    assert time.perf_counter() - started < 1
    assert [stream.answer.finish_reason for stream in streams] == ["cancelled"] * 4


def test_files_that_do_not_belong_together_are_refused(pair: Path) -> None:
    mmproj = next(pair.glob("mmproj*.gguf"))
    with pytest.raises(ModelMismatchError):
        Engine.load(mmproj, mmproj=mmproj)


def test_the_async_door(pair: Path, clip: Clip) -> None:
    async def visit() -> tuple[str, str]:
        async with (
            await AsyncEngine.load(pair, context=1024) as engine,
            await engine.look(clip) as scene,
        ):
            answer = await scene.ask("What?", budget=SHORT, sampling=GREEDY)
            stream = scene.stream("What?", budget=SHORT, sampling=GREEDY)
            streamed = [piece.text async for piece in stream]
        return answer.text, "".join(streamed)

    whole, streamed = asyncio.run(visit())
    assert streamed.strip() == whole


def test_cancelling_the_task_stops_the_answer(pair: Path, clip: Clip, never_ends: None) -> None:
    async def visit() -> None:
        async with (
            await AsyncEngine.load(pair, context=2048) as engine,
            await engine.look(clip) as scene,
        ):
            task = asyncio.create_task(scene.ask("What?", budget=Budget(answer_tokens=1500)))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            started = time.perf_counter()
            await scene.ask("What?", budget=Budget(answer_tokens=2))
            assert time.perf_counter() - started < 2

    asyncio.run(visit())


def test_budgets_are_checked_when_they_are_made() -> None:
    for bad in (
        {"answer_tokens": 0},
        {"seconds": 0},
        {"visual_tokens": 0},
        {"thinking_tokens": -1},
    ):
        with pytest.raises(ValueError, match="expected"):
            Budget(**bad)
    assert scene_module.ANSWER_TOKENS > 0


def test_an_answer_ends_at_a_stop(engine: Engine, clip: Clip) -> None:
    with engine.look(clip, budget=Budget(visual_tokens=144)) as scene:
        greedy = Sampling(temperature=0)
        whole = scene.ask("Say something", sampling=greedy, budget=Budget(answer_tokens=24))
        stop = whole.text[5:8]
        at = whole.text.index(stop)
        stream = scene.stream("Say something", sampling=greedy, stop=[stop])
        shown = "".join(str(piece) for piece in stream)
        cut = stream.answer
    assert cut.text == whole.text[:at].rstrip() or cut.text == whole.text[:at]
    assert shown.strip() == cut.text.strip()
    assert cut.finish_reason == "stop"
    assert cut.usage.completion_tokens < 24


def test_a_batch_holds_the_logits_of_every_sequence(pair: Path) -> None:
    with Engine.load(pair, threads=1, context=512, profile=False, batch=1) as engine:
        assert engine.settings.batch == 64
