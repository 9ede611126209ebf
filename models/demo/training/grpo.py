"""The report's second stage in miniature: GRPO on what the supervised model is unsure of.

    python -m models.demo.training.grpo RUN [--steps 40]

Reads RUN/wordings, writes RUN/grpo and RUN/grpo.jsonl. Each step draws clips with questions, has
each answered several times, keeps those that are neither always right nor always wrong (the
difficulty filter), and moves the language model towards the answers better than their group's
mean (DeepSeekMath, arXiv 2402.03300, section 4.1; one update a rollout, so no ratio is clipped).
The ViT stays as it is.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLForConditionalGeneration

from models.demo.questions import Question
from models.demo.scenes import Scene, render
from models.demo.training.architecture import load_tokenizer
from models.demo.training.batches import collate, pads
from models.demo.training.conversation import (
    Conversation,
    Exchange,
    converse,
    prompt_ids,
)
from models.demo.training.export import write_checkpoint
from models.demo.training.network import Model, quicken, see, speak
from models.demo.training.rewards import ACCURACY, reward
from models.demo.training.rollout import Completion, Prompt, roll_out
from models.demo.training.samples import Sample, lay_out
from models.demo.training.schedule import SEEDS_PER_RUN
from models.demo.training.validation import Validation

CLIPS, QUESTIONS, ANSWERS = 12, 3, 6
LIMIT = 96
"""Tokens of an answer with its thought."""
RATE = 1e-4
EASY, HARD = 0.95, 0.05
"""Mean accuracy of a group beyond which nothing is to be learnt from it."""
VALIDATE_EVERY = 10


@dataclass(frozen=True)
class Group:
    """A question, and several answers with their rewards."""

    sample: int
    about: Question
    think: bool
    prompt: list[int]
    said: list[Completion]
    rewards: list[float]

    @property
    def worth_learning(self) -> bool:
        """Whether it is neither too easy nor too hard."""
        mean = sum(self.rewards) / len(self.rewards) / ACCURACY
        return HARD < mean < 1 + EASY - ACCURACY and max(self.rewards) - min(self.rewards) > 1e-3

    def advantages(self) -> list[float]:
        """Rewards less their mean, over their spread."""
        values = torch.tensor(self.rewards)
        return [float(one) for one in (values - values.mean()) / (values.std() + 1e-2)]


def train(folder: Path, steps: int, first_seed: int) -> None:
    """Run GRPO from the supervised stages' checkpoint; validate before, during and after."""
    tokenizer = load_tokenizer(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder / "wordings", dtype=torch.float32
    )
    quicken(model).model.visual.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    validation = Validation(tokenizer)
    generator = torch.Generator().manual_seed(0)
    began = time.monotonic()
    _log(folder, {"step": 0, "validation": validation.score(model, None, talk=True)})
    for step in range(steps):
        seeds = range(first_seed + step * CLIPS, first_seed + (step + 1) * CLIPS)
        scenes = [render(seed) for seed in seeds]
        groups = _answered(model, tokenizer, scenes, generator)
        kept = [group for group in groups if group.worth_learning]
        if kept:
            loss = _loss(model, tokenizer, scenes, kept)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        every = [value for group in groups for value in group.rewards]
        line: dict[str, object] = {
            "step": step + 1,
            "seconds": round(time.monotonic() - began, 1),
            "reward": round(sum(every) / len(every), 4),
            "kept": round(len(kept) / len(groups), 4),
        }
        if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == steps:
            line["validation"] = validation.score(model, None, talk=True)
        _log(folder, line)
    write_checkpoint(model, folder, folder / "grpo")


def _answered(
    model: Model, tokenizer: Tokenizer, scenes: list[Scene], generator: torch.Generator
) -> list[Group]:
    talks = [converse(scene, tokenizer, QUESTIONS, stage="wordings") for scene in scenes]
    samples = [
        lay_out(scene, Conversation(talk.opening, []), tokenizer, "video")
        for scene, talk in zip(scenes, talks, strict=True)
    ]
    asked = [
        (i, exchange.about, exchange.think, prompt_ids(exchange.about, tokenizer, exchange.think))
        for i, talk in enumerate(talks)
        for exchange in talk.exchanges
    ]
    prompts = [Prompt(i, ids) for i, _, _, ids in asked for _ in range(ANSWERS)]
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        said = roll_out(
            model, tokenizer, samples, prompts, limit=LIMIT, temperature=1.0, generator=generator
        )
    model.train()
    groups = []
    for n, (i, about, think, ids) in enumerate(asked):
        answers = said[n * ANSWERS : (n + 1) * ANSWERS]
        rewards = [
            reward(about, tokenizer.decode(one.ids), think=think, ended=one.ended)
            for one in answers
        ]
        groups.append(Group(i, about, think, ids, answers, rewards))
    return groups


def _loss(
    model: Model, tokenizer: Tokenizer, scenes: list[Scene], kept: list[Group]
) -> torch.Tensor:
    samples: list[Sample] = []
    advantages: list[float] = []
    for i, scene in enumerate(scenes):
        groups = [group for group in kept if group.sample == i]
        if not groups:
            continue
        exchanges = []
        for group in groups:
            for one, advantage in zip(group.said, group.advantages(), strict=True):
                said = [False] * len(group.prompt) + [True] * len(one.ids)
                exchange = Exchange([*group.prompt, *one.ids], said, group.about, group.think)
                exchanges.append(exchange)
                advantages += [advantage] * len(one.ids)
        opening = converse(scene, tokenizer, QUESTIONS, stage="wordings").opening
        samples.append(lay_out(scene, Conversation(opening, exchanges), tokenizer, "video"))
    batch = collate(samples, pads(tokenizer))
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            visual = see(model, batch)
        spoken = speak(model, batch, visual)
    logprobs = spoken.logits.float().log_softmax(-1)
    chosen = logprobs.gather(1, spoken.targets[:, None])[:, 0]
    # Each answer counts once, however long it is: said**-1/2 squared is one over its length.
    share = spoken.weights**2
    return -(chosen * torch.tensor(advantages) * share).sum() / share.sum()


def _log(folder: Path, line: dict[str, object]) -> None:
    text = json.dumps(line)
    with (folder / "grpo.jsonl").open("a") as file:
        file.write(text + "\n")
    print(text, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Train the demo model with rewards.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--run", type=int, default=0, help="decides the scenes")
    args = parser.parse_args()
    train(args.folder, args.steps, args.run * SEEDS_PER_RUN + SEEDS_PER_RUN * 3 // 4)


if __name__ == "__main__":
    main()
