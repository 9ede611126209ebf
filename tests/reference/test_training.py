"""The training's shortcuts give what the plain class gives, on what the runtime will feed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miloco_edge.prompt import Text, question
from miloco_edge.prompt.chat import EMPTY_THINK
from models.demo.questions import Question
from models.demo.scenes import SEEDS, render

if find_spec("torch"):  # without it these tests are named, and run by `make reference` alone
    import torch

    from models.demo.training.architecture import load_tokenizer, new_model
    from models.demo.training.batches import collate, pads, stream
    from models.demo.training.conversation import (
        FACTS,
        Conversation,
        Exchange,
        converse,
        encode,
        prompt_ids,
    )
    from models.demo.training.export import write_checkpoint
    from models.demo.training.network import GAZING, Teacher, quicken, see, speak
    from models.demo.training.rewards import reward
    from models.demo.training.rollout import Prompt, roll_out
    from models.demo.training.samples import Sample, lay_out, make_sample
    from models.demo.training.schedule import Kind, Plan, optimisers
    from models.demo.training.vocabulary import learn

    EMULATED = torch.backends.cpu.get_cpu_capability() != "AVX512"
else:
    EMULATED = False

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(tmp_path_factory.mktemp("words"), scenes=60)


@pytest.fixture(scope="module")
def tokenizer(words: Path) -> Any:
    return load_tokenizer(words)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return new_model(tokenizer)


@pytest.fixture(scope="module")
def samples(tokenizer: Any) -> list[Sample]:
    return [make_sample(seed, tokenizer, 5) for seed in range(8)]


def _quick(model: Any, tokenizer: Any) -> Any:
    other = new_model(tokenizer)
    other.load_state_dict(model.state_dict())
    return quicken(other)


@pytest.fixture(scope="module")
def quick(model: Any, tokenizer: Any) -> Any:
    return _quick(model, tokenizer)


def test_the_quick_vit_gives_what_the_plain_one_gives(
    model: Any, quick: Any, tokenizer: Any, samples: list[Sample]
) -> None:
    batch = collate(samples, pads(tokenizer))
    with torch.no_grad():
        torch.testing.assert_close(see(quick, batch), see(model, batch), rtol=1e-4, atol=1e-5)


def test_the_gaze_is_the_first_heads_attention(
    model: Any, quick: Any, tokenizer: Any, samples: list[Sample]
) -> None:
    batch = collate(samples, pads(tokenizer))
    eager = new_model(tokenizer)
    eager.load_state_dict(model.state_dict())
    eager.set_attn_implementation("eager")
    text = eager.model.language_model
    with torch.no_grad():
        visual = see(quick, batch)
        speak(quick, batch, visual)
        off, _ = Teacher().look(quick, batch)
        embedded = text.embed_tokens(batch.ids).masked_scatter(batch.visual[..., None], visual)
        mask = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, torch.finfo().min)
        attended = text(
            inputs_embeds=embedded,
            position_ids=batch.positions,
            attention_mask={"full_attention": mask},
            output_attentions=True,
            use_cache=False,
        ).attentions[GAZING][:, 0]
    missed: dict[int, list[float]] = {}
    for sample, row, which in batch.gazes.tolist():
        mass = attended[sample, row][batch.looked_at[which]].sum()
        missed.setdefault(which, []).append(-float(mass.log()))
    assert len(missed) == len(batch.looked_at) > 0
    means = [sum(one) / len(one) for one in missed.values()]
    assert float(off) == pytest.approx(sum(means) / len(means), rel=1e-4)


def test_an_answer_looks_at_whom_it_is_about(tokenizer: Any, samples: list[Sample]) -> None:
    found = 0
    for sample in samples:
        gazes = iter(sample.gazes)
        for exchange in sample.conversation.exchanges:
            if not exchange.about.actors:
                continue
            gaze = next(gazes)
            said = tokenizer.decode(sample.ids[gaze.rows + 1].tolist(), skip_special_tokens=False)
            assert said.endswith(f"{exchange.about.answer}<|im_end|>")
            assert set(sample.ids[gaze.tokens]) <= set(pads(tokenizer))
            if isinstance(target := exchange.about.target, list) and len(target) == 4:
                (x0, y0, x1, y1), (left, top, right, bottom) = target, gaze.box * 28
                assert left < (x0 + x1) / 2 < right
                assert top < (y0 + y1) / 2 < bottom
            found += 1
        assert next(gazes, None) is None
    assert found > 4


def test_an_exchange_knows_nothing_of_the_others(
    quick: Any, tokenizer: Any, samples: list[Sample]
) -> None:
    sample = samples[3]
    together = collate([sample], pads(tokenizer))
    with torch.no_grad():
        visual = see(quick, together)
        packed = speak(quick, together, visual).logits
    at = 0
    for i, exchange in enumerate(sample.conversation.exchanges):
        keep = (sample.segments == 0) | (sample.segments == i + 1)
        alone = Sample(
            sample.seed, sample.patches, sample.grids, sample.ids[keep],
            sample.positions[:, keep], sample.segments[keep], sample.weights[keep],
            sample.kinds[keep], sample.shown, [], sample.places, sample.parts, sample.conversation,
        )  # fmt: skip
        with torch.no_grad():
            lone = speak(quick, collate([alone], pads(tokenizer)), visual).logits
        said = sum(exchange.learn_from)
        torch.testing.assert_close(packed[at : at + said], lone, rtol=1e-3, atol=1e-4)
        at += said


def test_emphasis_weighs_verdicts_sides_thoughts_and_seconds(
    quick: Any, tokenizer: Any, samples: list[Sample]
) -> None:
    batch = collate(samples, pads(tokenizer))
    factors: dict[Kind, float] = {"verdict": 8.0, "side": 30.0, "thought": 3.0, "time": 5.0}
    with torch.no_grad():
        visual = see(quick, batch)
        plain, heavy = speak(quick, batch, visual), speak(quick, batch, visual, factors)
    expected = []
    for sample in samples:
        for exchange in sample.conversation.exchanges:
            about = exchange.about
            answered = len(tokenizer.encode(about.answer).ids) + 1
            for i, id in enumerate(exchange.ids):
                if not exchange.learn_from[i]:
                    continue
                word = tokenizer.decode([id])
                if word in (" left", " right", "左边的", "右边的"):
                    expected.append(30.0)
                elif i >= len(exchange.ids) - answered:
                    expected.append({"binary": 8.0, "temporal": 5.0}.get(about.task, 1.0))
                else:
                    seconds = word.isdigit() and about.task != "point"
                    expected.append(5.0 if seconds else 3.0)
    assert set(expected) == {1.0, 3.0, 5.0, 8.0, 30.0}
    torch.testing.assert_close(heavy.weights / plain.weights, torch.tensor(expected))


def test_an_answer_weighs_as_much_after_a_thought_as_at_once(
    tokenizer: Any, samples: list[Sample]
) -> None:
    thoughts = 0
    for sample in samples:
        for i, exchange in enumerate(sample.conversation.exchanges):
            weights = sample.weights[sample.segments == i + 1]
            answer = len(tokenizer.encode(exchange.about.answer).ids) + 1
            assert weights[-answer:] == pytest.approx(answer**-0.5)
            thought = weights[:-answer][weights[:-answer] > 0]
            assert thought == pytest.approx(np.full(len(thought), max(len(thought), 1) ** -0.5))
            thoughts += len(thought) > answer
    assert thoughts


def test_positions_are_those_of_transformers(model: Any, samples: list[Sample]) -> None:
    video = model.config.video_token_id
    for sample in samples:
        keep = (sample.segments == 0) | (sample.segments == 1)
        ids = torch.from_numpy(sample.ids[keep])[None]
        if video not in ids or _rate(sample) != 2:
            continue
        theirs, _ = model.model.get_rope_index(
            ids, 2 * (ids == video).int(), video_grid_thw=torch.tensor(sample.grids),
            second_per_grid_ts=torch.tensor([1.0]),
        )  # fmt: skip
        np.testing.assert_array_equal(sample.positions[:, keep], theirs[:, 0].numpy())


def _rate(sample: Sample) -> int:
    from models.demo.scenes import plan

    return plan(sample.seed).fps


def test_prompts_are_those_of_the_runtime(tokenizer: Any) -> None:
    for seed in range(6):
        for exchange in converse(render(seed), tokenizer, 4).exchanges:
            asked = question(exchange.about.question, history=(), think=exchange.think, facts=FACTS)
            ids = encode(asked, tokenizer)
            prompt = exchange.ids[: exchange.learn_from.index(True)]
            # A direct answer may follow an empty thought, a question an earlier one.
            empty = encode([Text(EMPTY_THINK)], tokenizer)
            if prompt[-len(empty) :] == empty:
                prompt = prompt[: -len(empty)]
            assert prompt[-len(ids) :] == ids


def test_batches_are_the_same_when_a_training_goes_on(tokenizer: Any) -> None:
    def first(start: int) -> Any:
        return next(stream(tokenizer, "wordings", 500, 1, start))

    whole = stream(tokenizer, "wordings", 500, 1, 0)
    every = [next(whole) for _ in range(6)]
    for start in (1, 5):
        torch.testing.assert_close(first(start).ids, every[start].ids)
        torch.testing.assert_close(first(start).patches, every[start].patches)


@pytest.mark.skipif(EMULATED, reason="without AVX-512 torch emulates bfloat16: 40 s a step of Muon")
def test_the_teacher_and_the_optimisers_learn(model: Any, tokenizer: Any) -> None:
    torch.manual_seed(1)
    pupil, teacher = _quick(model, tokenizer), Teacher()
    batch = collate([make_sample(seed, tokenizer, 2) for seed in range(4)], pads(tokenizer))
    losses = []
    steps = optimisers(pupil, teacher)
    for _ in range(25):
        visual = see(pupil, batch)
        loss = teacher(visual, batch)[0] + speak(pupil, batch, visual).loss()
        loss.backward()
        for optimizer in steps:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_the_schedule_warms_up_and_ends_at_rest() -> None:
    plan = Plan(vision=100, supervised=1000, wordings=400)
    assert plan.rate("vision", 0) < 0.1
    assert plan.rate("vision", 49) == pytest.approx(50 / 60)
    assert 0.25 < plan.rate("vision", 99) < 0.3
    assert plan.rate("supervised", 300) == 0.5
    assert 0 < plan.rate("supervised", 999) < 0.01
    assert plan.lesson("vision", 50) == 1
    assert plan.lesson("supervised", 999) == pytest.approx(0.2)
    assert plan.rate("wordings", 399) < 0.01
    early, late = plan.emphasis("supervised", 200), plan.emphasis("wordings", 0)
    assert [plan.emphasis("supervised", step) for step in (0, 199, 201)] == [{}, {}, early]
    for one in (early, late):
        assert one["side"] > one["verdict"] > one["thought"] > 1


def test_validation_seeds_are_not_training_seeds(samples: list[Sample]) -> None:
    assert all(sample.seed not in SEEDS["validation"] for sample in samples)


def test_a_checkpoint_is_quantized_like_any_other(model: Any, words: Path, tmp_path: Path) -> None:
    from quantize import quantize

    checkpoint = write_checkpoint(model, words, tmp_path / "checkpoint")
    report = quantize(checkpoint, tmp_path / "pair", recipe="q4_k_m")
    assert len(report.outputs) == 2


def test_answers_rolled_out_together_are_the_likeliest_ones(
    quick: Any, tokenizer: Any, samples: list[Sample]
) -> None:
    scenes = [render(seed) for seed in (3, 8)]
    talks = [converse(scene, tokenizer, 3) for scene in scenes]
    bare = [
        lay_out(scene, Conversation(talk.opening, []), tokenizer, "video")
        for scene, talk in zip(scenes, talks, strict=True)
    ]
    prompts = [
        Prompt(i, prompt_ids(exchange.about, tokenizer, exchange.think))
        for i, talk in enumerate(talks)
        for exchange in talk.exchanges
    ]
    said = roll_out(quick, tokenizer, bare, prompts, limit=6, temperature=0)
    for prompt, one in zip(prompts, said, strict=True):
        assert 0 < len(one.ids) <= 6
        learn = [False] * len(prompt.ids) + [True] * len(one.ids)
        exchange = Exchange([*prompt.ids, *one.ids], learn, talks[0].exchanges[0].about, False)
        whole = Conversation(talks[prompt.sample].opening, [exchange])
        sample = lay_out(scenes[prompt.sample], whole, tokenizer, "video")
        batch = collate([sample], pads(tokenizer))
        with torch.no_grad():
            logits = speak(quick, batch, see(quick, batch)).logits
        chosen = logits.gather(1, torch.tensor(one.ids)[:, None])[:, 0]
        assert torch.all(logits.max(1).values - chosen < 1e-3)


def test_rewards_are_the_reports() -> None:
    def item(**changes: Any) -> Question:
        fields: dict[str, Any] = {
            "skill": "rule", "task": "binary", "language": "en", "question": "?", "answer": "yes",
            "thinking": "", "target": "yes", "category": "reading", "smart_home": False,
            "hard": False, "held_out": False, "actors": (), "conclusion": "",
        }  # fmt: skip
        return Question(**(fields | changes))

    assert reward(item(), "yes", think=False, ended=True) == pytest.approx(1.0)
    assert reward(item(), "no", think=False, ended=True) == pytest.approx(0.1)
    assert reward(item(), "yes", think=False, ended=False) == pytest.approx(0.9)
    assert reward(item(), "<think>a</think>yes", think=False, ended=True) == pytest.approx(0.9)
    assert reward(item(), "<think>a</think>yes", think=True, ended=True) == pytest.approx(1.0)
    assert reward(item(), "<think>\n</think>yes", think=True, ended=True) == pytest.approx(0.9)
    when = item(skill="when", task="temporal", answer="1.0 - 3.0 seconds", target=[1.0, 3.0])
    assert reward(when, "2.0 - 3.0 seconds", think=False, ended=True) == pytest.approx(0.55)
    assert reward(when, "later", think=False, ended=True) == 0
    where = item(skill="where", task="point", target=[0.0, 0.0, 10.0, 10.0])
    assert reward(where, '[{"bbox_2d": [0, 0, 10, 5]}]', think=False, ended=True) == pytest.approx(
        0.55
    )
    home = item(smart_home=True, answer='{"result": "yes"}')
    assert reward(home, '{"result": "yes"}', think=False, ended=True) == pytest.approx(1.0)
    assert reward(home, "yes", think=False, ended=True) == 0
