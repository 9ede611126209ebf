"""A candidate beside its reference: the same clips, the same questions, the same words.

The reference answers each question greedily; the candidate is led along the reference's answer, so
that both are asked for the next token after the same text. What is compared is the distribution,
not the text: one token that falls the other way would make all that follow differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine import Engine, Scene, log_softmax
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.errors import ModelMismatchError
from miloco_edge.evaluate.divergence import Divergence, f1, kl, summarise
from miloco_edge.types import Budget, Calibration, Sampling
from miloco_edge.video import Clip

ANSWER_TOKENS = 16
Progress = Callable[[int, int], None]
"""Called with the questions that are done and their number, both models counted."""


@dataclass(frozen=True)
class Sample:
    """A question about a stretch of a clip; `target` is the right answer where it is known."""

    media: Path
    question: str
    target: str | None = None
    start: float | None = None
    end: float | None = None

    @property
    def is_yes(self) -> bool | None:
        """The target of a yes-or-no question, None for any other."""
        word = (self.target or "").strip().rstrip(".。").lower()
        return {"yes": True, "是": True, "no": False, "否": False}.get(word)


@dataclass(frozen=True)
class Side:
    """One of the two models: what it is and what the samples cost it."""

    name: str
    file_type: str
    bytes: int
    """Text GGUF and mmproj together."""
    vision_s: float
    prefill_s: float
    prefill_tokens: int
    f1: float | None
    """Of yes, over the questions whose target is yes or no."""


@dataclass(frozen=True)
class Comparison:
    """How far the candidate is from the reference."""

    samples: int
    divergence: Divergence
    p_yes_shift: float | None
    """Mean absolute change of p_yes over the yes-or-no questions."""
    reference: Side
    candidate: Side


@dataclass
class _Run:
    """What is collected while one model goes through the samples."""

    vision_s: float = 0.0
    prefill_s: float = 0.0
    prefill_tokens: int = 0
    p_yes: list[float | None] = field(default_factory=list)
    """Of yes-or-no questions, before calibration."""


def compare(
    candidate: str | Path,
    reference: str | Path,
    samples: Sequence[Sample],
    *,
    visual_tokens: int | None = None,
    progress: Progress = lambda done, total: None,
    **load: Unpack[LoadOptions],
) -> Comparison:
    """Measure `candidate` against `reference` on `samples`.

    One model is in memory at a time; the reference's distributions wait in a temporary file. Raises
    ValueError without samples, ModelMismatchError for models of different vocabularies, and what
    Engine.load and Engine.look raise. Device profiles are left aside: it is the files that differ.
    """
    if not samples:
        raise ValueError("samples: expected at least one, got none")
    load.setdefault("profile", False)  # it may have another mmproj, or a KV cache that rounds
    budget = Budget(visual_tokens=visual_tokens)
    answers: list[list[int]] = []
    with tempfile.TemporaryFile() as file:
        with Engine.load(reference, **load) as engine:
            first, vocabulary = _Run(), engine.n_vocab
            for done, (sample, scene) in enumerate(_scenes(engine, samples, budget, first), 1):
                answers.append(_greedy(scene, sample.question))
                logprobs = log_softmax(scene.logits(sample.question, continuation=answers[-1][:-1]))
                logprobs.astype(np.float32).tofile(file)
                first.p_yes.append(_p_yes(scene, sample))
                progress(done, 2 * len(samples))
            reference_side = _side(engine, first, samples)
        file.seek(0)
        divergences: list[NDArray[np.float64]] = []
        agree: list[NDArray[np.bool_]] = []
        with Engine.load(candidate, **load) as engine:
            if engine.n_vocab != vocabulary:
                raise ModelMismatchError(
                    engine.files.text,
                    f"expected a vocabulary of {vocabulary} tokens, got {engine.n_vocab}",
                    hint="compare files that were made from the same checkpoint",
                )
            second = _Run()
            scenes = _scenes(engine, samples, budget, second)
            for done, ((sample, scene), answer) in enumerate(zip(scenes, answers, strict=True), 1):
                logprobs = log_softmax(scene.logits(sample.question, continuation=answer[:-1]))
                held = np.fromfile(file, np.float32, logprobs.size).reshape(logprobs.shape)
                divergences.append(kl(held.astype(np.float64), logprobs))
                agree.append(held.argmax(-1) == logprobs.argmax(-1))
                second.p_yes.append(_p_yes(scene, sample))
                progress(len(samples) + done, 2 * len(samples))
            candidate_side = _side(engine, second, samples)
    both = zip(first.p_yes, second.p_yes, strict=True)
    shifts = [abs(a - b) for a, b in both if a is not None and b is not None]
    return Comparison(
        samples=len(samples),
        divergence=summarise(np.concatenate(divergences), np.concatenate(agree)),
        p_yes_shift=float(np.mean(shifts)) if shifts else None,
        reference=reference_side,
        candidate=candidate_side,
    )


def _scenes(
    engine: Engine, samples: Iterable[Sample], budget: Budget, run: _Run
) -> Iterator[tuple[Sample, Scene]]:
    """Each sample with its scene; neighbours about the same stretch share one."""
    for (media, start, end), group in groupby(samples, lambda s: (s.media, s.start, s.end)):
        read = Clip.from_folder if media.is_dir() else Clip.from_file
        clip = read(media, start=start, end=end)
        with engine.look(clip, budget=budget) as scene:
            run.vision_s += scene.timings.vision_s or 0.0
            run.prefill_s += scene.timings.prefill_s or 0.0
            run.prefill_tokens += scene.usage.visual_tokens
            for sample in group:
                yield sample, scene


def _greedy(scene: Scene, question: str) -> list[int]:
    answer = scene.ask(
        question, budget=Budget(answer_tokens=ANSWER_TOKENS), sampling=Sampling(), top_logprobs=1
    )
    return [token.id for token in answer.logprobs or ()]


def _p_yes(scene: Scene, sample: Sample) -> float | None:
    if sample.is_yes is None:
        return None
    return scene.decide([sample.question], as_written=True, calibration=Calibration())[0].p_yes


def _side(engine: Engine, run: _Run, samples: Sequence[Sample]) -> Side:
    files = engine.files
    known = [
        (p >= 0.5, sample.is_yes)
        for p, sample in zip(run.p_yes, samples, strict=True)
        if p is not None and sample.is_yes is not None
    ]
    return Side(
        name=files.name,
        file_type=files.file_type,
        bytes=files.text.stat().st_size + files.mmproj.stat().st_size,
        vision_s=run.vision_s,
        prefill_s=run.prefill_s,
        prefill_tokens=run.prefill_tokens,
        f1=f1([p for p, _ in known], [a for _, a in known]) if known else None,
    )
