"""One window from its capture to its answers, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields

from miloco_edge import Budget, Clip, Engine, Sampling
from miloco_edge.engine.clock import Clock
from miloco_edge.engine.planner import Intent
from miloco_edge.measure.film import mark

QUESTION = "What is the person in the picture doing?"
RULES = ("Someone is reading", "The lamp is on")
_GREEDY = Sampling()


@dataclass(frozen=True)
class Workload:
    """What is done with each window."""

    read: Callable[[], Clip]
    """Decode it."""
    question: str | None = QUESTION
    rules: tuple[str, ...] = RULES
    answer_tokens: int = 16
    visual_tokens: int | None = None
    deadline_s: float | None = None
    """From the capture of the window."""


@dataclass(frozen=True)
class Stages:
    """Seconds; None where the stage was not reached or not asked for.

    `first_token_s`, and `total_s` count from the capture of the window, so they hold what it waited
    for the window before it. `total_s` is measured, not added up.
    """

    wait_s: float | None = None
    """For the window before it, where windows come at their own pace."""
    decode_s: float | None = None
    """Decoding the video."""
    resize_s: float | None = None
    vision_s: float | None = None
    """The ViT on all pairs."""
    vision_pair_s: float | None = None
    """The ViT on one pair, the mean of the window's."""
    prefill_s: float | None = None
    """Of the visual tokens."""
    question_s: float | None = None
    """Prefill of the question."""
    first_token_s: float | None = None
    token_s: float | None = None
    """One token of the answer, the mean of those after the first."""
    decision_s: float | None = None
    """All rules together."""
    total_s: float = 0.0


STAGES = tuple(field.name for field in fields(Stages))


@dataclass(frozen=True)
class Sample:
    """One window that was measured."""

    cold: bool
    """The first since the model was loaded."""
    stages: Stages
    visual_tokens: int
    temporal_patches: int
    size: tuple[int, int] | None
    """(width, height) that the ViT saw."""
    prompt_tokens: int
    answer_tokens: int
    answer: str | None
    finish_reason: str | None
    decisions: tuple[str, ...]
    """yes, no or unknown for each rule."""
    unanswered: bool
    """Whether the deadline came before the answer or a decision."""


def measure_window(
    engine: Engine,
    workload: Workload,
    number: int,
    captured: float | None = None,
    *,
    cold: bool = False,
    now: Callable[[], float] = time.perf_counter,
) -> Sample:
    """Decode, look, ask and decide. `captured` is when the window came, by `now`; else it is now.

    Raises what looking raises.
    """
    began = now()
    alone = captured is None
    captured = began if captured is None else captured
    budget = Budget(
        answer_tokens=workload.answer_tokens,
        seconds=workload.deadline_s,
        visual_tokens=workload.visual_tokens,
    )
    clock = Clock(budget, captured, now=now)
    clip = workload.read()
    decoded = now()
    mark(clip, number)
    intent = Intent((workload.question,) if workload.question else (), workload.rules)
    answer, first_token, decision_s, late = None, None, None, False
    verdicts: tuple[str, ...] = ()
    with engine.look(clip, budget=clock.left(), intent=intent) as scene:
        if workload.question is not None:
            asked = now()
            answer = scene.ask(workload.question, budget=clock.left(), sampling=_GREEDY)
            late = answer.finish_reason == "deadline"
            if answer.timings.first_token_s is not None:
                first_token = asked + answer.timings.first_token_s - captured
        if workload.rules:
            asked = now()
            decided = scene.decide(workload.rules, budget=clock.left())
            verdicts = tuple(decision.answer for decision in decided)
            late = late or any(decision.reason == "deadline" for decision in decided)
            decision_s = now() - asked
        ended = now()
        seen = scene.clip if scene.complete else None
        timings = scene.timings
        pairs = seen.temporal_patches if seen else 0
        tokens = answer.usage.completion_tokens if answer else 0
        return Sample(
            cold=cold,
            stages=Stages(
                wait_s=None if alone else began - captured,
                decode_s=decoded - began,
                resize_s=timings.video_s,
                vision_s=timings.vision_s,
                vision_pair_s=timings.vision_s / pairs if pairs and timings.vision_s else None,
                prefill_s=timings.prefill_s if seen else None,
                question_s=answer.timings.prefill_s if answer else None,
                first_token_s=first_token,
                token_s=answer.timings.generate_s / (tokens - 1)
                if answer and tokens > 1 and answer.timings.generate_s is not None
                else None,
                decision_s=decision_s,
                total_s=ended - captured,
            ),
            visual_tokens=seen.visual_tokens if seen else 0,
            temporal_patches=pairs,
            size=seen.size if seen else None,
            prompt_tokens=answer.usage.prompt_tokens if answer else 0,
            answer_tokens=tokens,
            answer=answer.text if answer else None,
            finish_reason=answer.finish_reason if answer else None,
            decisions=verdicts,
            unanswered=late,
        )
