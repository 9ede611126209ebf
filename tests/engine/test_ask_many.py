from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miloco_edge import Answer, AsyncEngine, Budget, Engine, Sampling, Scene
from miloco_edge.engine import answer as answer_module
from miloco_edge.errors import ContextFullError
from miloco_edge.llama import Context, Interrupted, Sampler
from miloco_edge.prompt import Piece
from tests.engine.held import decodes as decodes
from tests.engine.held import forgotten as forgotten
from tests.engine.held import held
from tests.engine.test_deadline import Clock

pytestmark = pytest.mark.usefixtures("forgotten")

QUESTIONS = ["Who is there?", "Who is reading?", "What is in the dark room?", "有人吗？"]


@pytest.fixture
def scene(engine: Engine) -> Iterator[Scene]:
    """A conversation without pictures; all that it took is given back."""
    engine.forget()  # openings would give way to what is asked
    with engine.look() as scene:
        before = held(engine)
        yield scene
        assert held(engine) == before
        assert before[2] == []


def said(answer: Answer) -> tuple[Any, ...]:
    return answer.text, answer.thinking, answer.finish_reason, answer.usage.completion_tokens


@pytest.mark.parametrize("think", [False, True])
def test_side_by_side_as_alone(scene: Scene, think: bool) -> None:
    options: Any = {
        "budget": Budget(answer_tokens=12, thinking_tokens=5),
        "sampling": Sampling(),
        "think": think,
        "top_logprobs": 1,
    }
    together = scene.ask_many(QUESTIONS, **options)
    for answer in together:
        alone = scene.ask(answer.question, **options)
        assert said(answer) == said(alone)
        assert [t.id for t in answer.logprobs or ()] == [t.id for t in alone.logprobs or ()]
    assert [answer.question for answer in together] == QUESTIONS
    assert len({answer.text for answer in together}) > 1


def test_each_draws_its_own_tokens_whoever_is_beside_it(scene: Scene) -> None:
    """Random weights give flat odds, where a lone decode's rounding decides draws: so not alone."""
    options: Any = {"budget": Budget(answer_tokens=8), "sampling": Sampling(0.5, seed=7)}
    one = scene.ask_many(QUESTIONS, **options)
    other = scene.ask_many([*QUESTIONS[1:], QUESTIONS[0]], **options)
    assert {a.question: a.text for a in one} == {a.question: a.text for a in other}
    twice = scene.ask_many([QUESTIONS[0]] * 2, **options)
    assert twice[0].text == twice[1].text
    options["sampling"] = Sampling(0.5, seed=8)
    assert scene.ask_many(QUESTIONS, **options)[0].text != one[0].text


def test_one_decode_a_token_for_all(scene: Scene, decodes: list[int]) -> None:
    answers = scene.ask_many(QUESTIONS, budget=Budget(answer_tokens=6), sampling=Sampling())
    longest = max(answer.usage.completion_tokens for answer in answers)
    assert len(decodes) == longest  # the prefill, and one for each token but the last
    assert decodes[1] == len(QUESTIONS)
    totals = [answer.timings.total_s or 0.0 for answer in answers]
    shares = sum(
        (a.timings.generate_s or 0.0) + (a.timings.prefill_s or 0.0) for a in answers
    )  # fmt: skip
    assert shares == pytest.approx(max(totals), rel=0.2)


def test_answers_that_do_not_fit_together_take_turns(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    real = answer_module._generate

    def count(context: Context, position: int, lines: Any) -> float:
        groups.append(len(lines))
        return real(context, position, lines)

    monkeypatch.setattr(answer_module, "_generate", count)
    ended = int(scene._lookout.model.tokenize("<|im_end|>", special=True)[0])
    monkeypatch.setattr(Sampler, "sample", lambda *_: ended)
    scene.ask_many(QUESTIONS, budget=Budget(answer_tokens=700))
    assert len(groups) > 1 and sum(groups) == len(QUESTIONS)
    with pytest.raises(ContextFullError):
        scene.ask_many(QUESTIONS, budget=Budget(answer_tokens=5000))
    assert scene.ask_many([]) == []


def test_a_thought_is_taken_back_in_its_own_sequence(
    engine: Engine, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model's words for two questions in turns: the first thinks under /no_think."""
    model = engine._loaded.model

    def tokens(*texts: str) -> list[int]:
        return [int(t) for text in texts for t in model.tokenize(text, special=True)]

    first = tokens("<think>", "hello", "yes", "<|im_end|>")
    second = tokens("the", " room", " is", " dark", "<|im_end|>")
    scripts = [iter(first), iter(second)]
    samplers: dict[int, int] = {}

    def sample(self: Sampler, *_: Any) -> int:
        # Two samplers an answer: for thoughts and for the answer, made in this order.
        return next(scripts[samplers[id(self)]])

    real = Sampler.__init__

    def number(self: Sampler, *args: Any) -> None:
        samplers[id(self)] = len(samplers) // 2
        real(self, *args)

    monkeypatch.setattr(Sampler, "__init__", number)
    monkeypatch.setattr(Sampler, "sample", sample)
    one, other = scene.ask_many(["Who?", "Where?"])
    assert (one.text, one.thinking) == ("yes", None)
    assert other.text == "the room is dark"


def test_pieces_come_with_the_number_of_their_question(scene: Scene) -> None:
    pieces: list[tuple[int, Piece | Answer]] = []
    request = scene.start_ask_many(
        QUESTIONS,
        emit=lambda i, piece: pieces.append((i, piece)),
        budget=Budget(answer_tokens=4),
        sampling=Sampling(),
    )
    for i, answer in enumerate(request.result()):
        mine = [piece for number, piece in pieces if number == i]
        assert mine[-1] is answer
        assert "".join(str(piece) for piece in mine[:-1]).strip() == answer.text


def test_stopped_midway_all_keep_what_they_said(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Context.decode_runs
    calls: list[int] = []

    def stop(self: Context, runs: Any) -> list[int]:
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted
        return real(self, runs)

    monkeypatch.setattr(Context, "decode_runs", stop)
    budget = Budget(answer_tokens=9)
    answers = scene.ask_many(QUESTIONS[:2], budget=budget, sampling=Sampling())
    assert {answer.finish_reason for answer in answers} == {"cancelled"}
    assert {answer.usage.completion_tokens for answer in answers} == {2}
    calls[:] = [1, 1]
    answers = scene.ask_many(QUESTIONS[:2], budget=budget, sampling=Sampling())
    assert [(a.text, a.finish_reason) for a in answers] == [("", "cancelled")] * 2


def test_those_who_take_turns_share_the_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two by two, at ten seconds a decode, the first of which is the question's."""
    token = int(scene._lookout.model.tokenize("a", special=False)[0])
    clock, real = Clock(monkeypatch), Context.decode_runs

    def slow(self: Context, runs: Any) -> list[int]:
        clock.skipped += 10
        return real(self, runs)

    monkeypatch.setattr(answer_module, "SIDE_BY_SIDE", 2)
    monkeypatch.setattr(scene._lookout, "pace", None)
    monkeypatch.setattr(Sampler, "sample", lambda *_: token)
    monkeypatch.setattr(Context, "decode_runs", slow)
    answers = scene.ask_many(QUESTIONS, budget=Budget(answer_tokens=40, seconds=200))
    assert {answer.finish_reason for answer in answers} == {"deadline"}
    lengths = [answer.usage.completion_tokens for answer in answers]
    assert min(lengths) >= 6 and max(lengths) - min(lengths) <= 3, lengths
    assert clock.skipped <= 200


def test_no_time_at_all(scene: Scene) -> None:
    answers = scene.ask_many(QUESTIONS, budget=Budget(seconds=1e-9))
    assert {(answer.text, answer.finish_reason) for answer in answers} == {("", "deadline")}


def test_the_async_door(pair: Path) -> None:
    async def visit() -> list[Answer]:
        async with (
            await AsyncEngine.load(pair, context=512, threads=1) as engine,
            await engine.look() as scene,
        ):
            return await scene.ask_many(QUESTIONS[:2], budget=Budget(answer_tokens=2))

    assert [answer.question for answer in asyncio.run(visit())] == QUESTIONS[:2]
