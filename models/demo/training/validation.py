"""Scores on validation scenes during training, without generating: as quick as a few steps.

An answer is right if each of its tokens is the likeliest after the true ones before it, which is
when greedy decoding would say it. A box is hardly ever right to the pixel, so what says whose it is
counts by itself, as "side".
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from tokenizers import Tokenizer

from models.demo.scenes import SEEDS
from models.demo.training.batches import Batch, collate, pads
from models.demo.training.network import Model, Teacher, see, speak
from models.demo.training.samples import Sample, make_sample
from models.demo.training.schedule import KINDS

CLIPS = 128
QUESTIONS = 8


class Validation:
    """A fixed set of validation scenes with questions."""

    def __init__(self, tokenizer: Tokenizer, clips: int = CLIPS, size: int = 16) -> None:
        seeds = SEEDS["validation"][:clips]
        samples = sorted(
            (make_sample(seed, tokenizer, QUESTIONS) for seed in seeds), key=lambda s: len(s.ids)
        )
        self.groups = [samples[i : i + size] for i in range(0, clips, size)]
        self.batches: list[Batch] = [collate(group, pads(tokenizer)) for group in self.groups]

    @torch.no_grad()
    def score(self, model: Model, teacher: Teacher | None, *, talk: bool) -> dict[str, float]:
        """Means by skill, with "/think" after those answered after a thought."""
        model.eval()
        found: dict[str, list[float]] = defaultdict(list)
        for group, batch in zip(self.groups, self.batches, strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                visual = see(model, batch)
                if teacher is not None:
                    found["state"].append(float(teacher(visual, batch)[1]))
                if not talk:
                    continue
                said = speak(model, batch, visual)
            found["loss"].append(float(said.loss()))
            hits = (said.logits.argmax(1) == said.targets).tolist()
            _credit(group, hits, found)
        model.train()
        return {name: round(sum(values) / len(values), 4) for name, values in sorted(found.items())}


def _credit(group: list[Sample], hits: list[bool], found: dict[str, list[float]]) -> None:
    at = 0
    kinds = np.concatenate([sample.kinds[sample.weights > 0] for sample in group])
    for sample in group:
        for exchange in sample.conversation.exchanges:
            count = sum(exchange.learn_from)
            mark = "/think" if exchange.think else ""
            found[exchange.about.skill + mark].append(float(all(hits[at : at + count])))
            sides = np.flatnonzero(kinds[at : at + count] == KINDS.index("side"))
            if exchange.about.skill == "where" and len(sides):
                found["side" + mark].append(float(hits[at + sides[-1]]))
            at += count
