"""Samples in batches, made by processes beside the training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from models.demo.scenes import plan
from models.demo.training.conversation import id_of
from models.demo.training.samples import Sample, make_glimpse, make_sample
from models.demo.training.schedule import CLIPS, Stage

TRIES = 16
"""Seeds among which a scene with two actors is looked for, for every other clip."""
AHEAD = 4
"""Batches that are drawn together and sorted by length, so that little is padded."""

_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True)
class Batch:
    """b samples of at most n ids, p patches and v visual tokens in all."""

    patches: Tensor
    """(p, 1176) uint8."""
    grids: Tensor
    """(media, 3) int64."""
    ids: Tensor
    """(b, n) int64."""
    positions: Tensor
    """(3, b, n) int64."""
    mask: Tensor
    """(b, 1, n, n) bool: who sees whom."""
    weights: Tensor
    """(b, n) float32."""
    kinds: Tensor
    """(b, n) int64, of KINDS."""
    visual: Tensor
    """(b, n) bool: where the v visual tokens go."""
    states: Tensor
    """(s,) int64, one for each actor in each frame."""
    moments: Tensor
    """(s,) int64."""
    tokens: Tensor
    """(k,) int64: visual tokens of those actors, one after the other."""
    owners: Tensor
    """(k,) int64: whose of the s they are."""
    sides: Tensor
    """(k, 4) float32."""
    gazes: Tensor
    """(m, 3) int64: sample, row and which of the gazes, for each word said while looking."""
    looked_at: Tensor
    """(gazes, n) bool: the ids looked at."""
    boxes: Tensor
    """(gazes, 4) float32: around those, in tokens."""
    places: Tensor
    """(v, 2) float32: column and row of each visual token."""
    parts: Tensor
    """(v, 32) uint8."""

    def pixels(self) -> Tensor:
        """Normalised patches: (p, 1176) float32."""
        cells = self.patches.view(-1, 3, 392).float() / 255
        return ((cells - _MEAN[:, None]) / _STD[:, None]).view(-1, 1176)


def collate(samples: list[Sample], pads: tuple[int, int]) -> Batch:
    """A batch of samples; `pads` are the ids that visual tokens replace."""
    longest = max(len(sample.ids) for sample in samples)
    b = len(samples)
    ids = np.full((b, longest), 0, np.int64)
    positions = np.zeros((3, b, longest), np.int64)
    segments = np.full((b, longest), -1, np.int64)
    weights = np.zeros((b, longest), np.float32)
    kinds = np.zeros((b, longest), np.int64)
    states: list[int] = []
    moments: list[int] = []
    tokens: list[NDArray[np.int64]] = []
    owners: list[NDArray[np.int64]] = []
    sides: list[NDArray[np.float32]] = []
    gazes = [np.zeros((0, 3), np.int64)]
    looked_at: list[NDArray[np.bool_]] = []
    boxes: list[NDArray[np.float32]] = []
    seen = 0
    for i, sample in enumerate(samples):
        n = len(sample.ids)
        ids[i, :n], positions[:, i, :n] = sample.ids, sample.positions
        segments[i, :n], weights[i, :n] = sample.segments, sample.weights
        kinds[i, :n] = sample.kinds
        for actor in sample.shown:
            owners.append(np.full(len(actor.tokens), len(states)))
            states.append(actor.state)
            moments.append(actor.moment)
            tokens.append(actor.tokens + seen)
            sides.append(actor.sides)
        for gaze in sample.gazes:
            which = np.full(len(gaze.rows), len(looked_at))
            gazes.append(np.stack([np.full(len(gaze.rows), i), gaze.rows, which], 1))
            looked_at.append(np.isin(np.arange(longest), gaze.tokens))
            boxes.append(gaze.box)
        seen += len(sample.patches) // 4
    causal = np.tril(np.ones((longest, longest), bool))
    same = (segments[:, :, None] == segments[:, None]) | (segments[:, None] == 0)
    return Batch(
        torch.from_numpy(np.concatenate([sample.patches for sample in samples])),
        torch.tensor([grid for sample in samples for grid in sample.grids]),
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(same & causal)[:, None],
        torch.from_numpy(weights),
        torch.from_numpy(kinds),
        torch.from_numpy((segments == 0) & np.isin(ids, pads)),
        torch.tensor(states, dtype=torch.int64),
        torch.tensor(moments, dtype=torch.int64),
        torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *tokens])),
        torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *owners])),
        torch.from_numpy(np.concatenate([np.zeros((0, 4), np.float32), *sides])),
        torch.from_numpy(np.concatenate(gazes)),
        torch.from_numpy(np.array(looked_at, np.bool_).reshape(-1, longest)),
        torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
        torch.from_numpy(np.concatenate([sample.places for sample in samples])),
        torch.from_numpy(np.concatenate([sample.parts for sample in samples])),
    )


class _Stream(IterableDataset[Batch]):
    def __init__(
        self, tokenizer: Tokenizer, stage: Stage, first_seed: int, questions: int, start: int
    ) -> None:
        self.tokenizer, self.stage, self.first_seed = tokenizer, stage, first_seed
        self.questions, self.start = questions, start

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        size = CLIPS[self.stage]
        group = self.start // AHEAD
        while True:
            samples = [self._make(group * AHEAD * size + i) for i in range(AHEAD * size)]
            samples.sort(key=lambda sample: len(sample.ids))
            # Not in ascending order: a step's length would say when it comes.
            order = np.random.default_rng(group).permutation(AHEAD)
            for i in order[self.start - group * AHEAD :] if group == self.start // AHEAD else order:
                yield collate(samples[i * size : (i + 1) * size], pads(self.tokenizer))
            group += 1

    def _make(self, number: int) -> Sample:
        if self.stage == "vision":
            return make_glimpse(self.first_seed + number, self.tokenizer)
        first = self.first_seed + number * TRIES
        seed = _of_two(first) if number % 2 else first
        return make_sample(seed, self.tokenizer, self.questions, stage=self.stage)


def pads(tokenizer: Tokenizer) -> tuple[int, int]:
    """Ids that stand for visual tokens."""
    return id_of("<|video_pad|>", tokenizer), id_of("<|image_pad|>", tokenizer)


def stream(
    tokenizer: Tokenizer, stage: Stage, first_seed: int, questions: int, start: int
) -> Iterator[Batch]:
    """Batches of a stage from batch `start` on, without end, made in another process."""
    dataset = _Stream(tokenizer, stage, first_seed, questions, start)
    return iter(DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=6))


def _of_two(first: int) -> int:
    """The first of some seeds whose scene has two actors; the first of all, if there is none."""
    few = range(first, first + TRIES)
    return next((seed for seed in few if len(plan(seed).actors) == 2), first)
