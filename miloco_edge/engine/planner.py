"""Plans an engine's looks and answers under a deadline, from what it is about to do."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from miloco_edge.engine.branch import Tokens, together
from miloco_edge.engine.gauge import QUICK, THOROUGH, Thoroughness, gauge, quick_guess_s
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.look import Lookout, Prefilled
from miloco_edge.engine.odds import TIMED_TOKENS
from miloco_edge.engine.pace import Pace
from miloco_edge.engine.plan import (
    ANSWER_TOKENS,
    SHORT_ANSWER,
    SIDE_BY_SIDE,
    THINKING_TOKENS,
    Ahead,
    Costs,
    Plan,
    View,
    answers_s,
    budgets,
    given_up_in_answer,
    plan,
)
from miloco_edge.engine.rates import Figure, Rates, rates_of
from miloco_edge.errors import MediaError
from miloco_edge.llama import MAX_TOKENS, TOKEN_PIXELS
from miloco_edge.prompt import ChatFacts, Text, question
from miloco_edge.prompt.chat import DESCRIBE, VISION_END
from miloco_edge.prompt.decision import rule_question
from miloco_edge.types import RGB, Answer, Budget, Degraded, Preprocessor
from miloco_edge.video import Clip, FittedClip, sizes_of

_LITTLE = 0.1
"""Measuring may take this share of a deadline that nobody has measured for."""


@dataclass(frozen=True)
class Intent:
    """What will be asked of a scene, so that its look leaves time for it."""

    questions: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    think: bool = False


A_QUESTION = Intent(questions=(DESCRIBE["en"],))
"""Unless more is known."""


def measure(lookout: Lookout, *, thorough: bool = False) -> list[Figure]:
    """Measure how fast the model is here; from then on `lookout` has a pace."""
    how: Thoroughness = THOROUGH if thorough else QUICK
    figures = gauge(lookout.context, lookout.vision, how)
    lookout.pace = Pace(rates_of(figures, lookout.context.n_batch))
    return figures


def pace_for(lookout: Lookout, seconds: float) -> Pace | None:
    """How fast the model is here; None where that is unknown and takes too long to find out."""
    if lookout.pace is None and quick_guess_s(lookout.vision) < _LITTLE * seconds:
        measure(lookout)
    return lookout.pace


def interrupt_for(lookout: Lookout, budget: Budget | None) -> Interrupt:
    """Of a request with such a budget, which leaves the model the time to stop.

    Half of the time of a token, which reads every weight, is longer than any node of a graph.
    """
    node_s = 0.0 if lookout.pace is None else lookout.pace.now().token[0] / 2
    return Interrupt(None if budget is None else budget.seconds, node_s)


def ahead_of(lookout: Lookout, facts: ChatFacts, intent: Intent, budget: Budget) -> Ahead:
    """What is intended, in tokens."""

    def suffix(text: str, *, think: bool = False) -> Tokens:
        pieces = question(text, history=(), think=think, facts=facts)
        return lookout.tokenize([Text(VISION_END, special=True), *pieces])

    thinking = THINKING_TOKENS if budget.thinking_tokens is None else budget.thinking_tokens
    return Ahead(
        question_tokens=in_groups([suffix(q, think=intent.think) for q in intent.questions]),
        questions=len(intent.questions),
        rule_tokens=together([suffix(rule_question(rule)) for rule in intent.rules]),
        thinking_tokens=thinking if intent.think and facts.thinks else 0,
        answer_tokens=budget.answer_tokens or ANSWER_TOKENS,
    )


def in_groups(questions: Sequence[Tokens]) -> int:
    """Tokens of all questions, what those answered side by side have in common once."""
    starts = range(0, len(questions), SIDE_BY_SIDE)
    return sum(together(questions[i : i + SIDE_BY_SIDE]) for i in starts)


def plan_look(
    lookout: Lookout,
    pace: Pace,
    clip: Clip,
    preprocessor: Preprocessor,
    ahead: Ahead,
    interrupt: Interrupt,
    *,
    depth: int,
    visual_tokens: int,
    max_frames: int,
) -> Plan:
    """How to show a clip so that what is ahead can follow in time; keeps time back for that.

    What might be remembered, or left out because it has not changed, is not counted on.
    """
    costs = _costs(lookout, pace, depth)
    views = ways_to_show(clip, preprocessor, visual_tokens, max_frames)
    made = plan(views, ahead, interrupt.remaining(), costs)
    least = min(made.thinking_tokens + made.answer_tokens, SHORT_ANSWER)

    def after_s() -> float:
        return _costs(lookout, pace, depth).after_s(made.view, ahead, least)

    interrupt.kept_back = after_s
    return made


def ways_to_show(
    clip: Clip, preprocessor: Preprocessor, visual_tokens: int, max_frames: int
) -> Iterator[View]:
    """What `fit` makes of a clip under smaller and smaller budgets, each of fewer tokens."""
    last: View | None = None
    for budget in budgets(visual_tokens):
        if last is not None and budget >= last.visual_tokens:
            continue
        try:
            sizes, patches = sizes_of(clip, preprocessor, budget, max_frames, MAX_TOKENS)
        except MediaError:
            if last is None:
                raise
            return
        if last is None or sum(patches) < last.visual_tokens:
            width, height = clip.frames[0].size
            last = View(len(sizes), sizes[0], patches, budget, len(sizes) * width * height)
            yield last


@dataclass(frozen=True)
class Foreseen:
    """What is known of answers before they begin: how long they may be, and will take."""

    ahead: Ahead
    depth: int
    """Tokens of the scene."""
    rates: Rates | None
    made: Plan | None
    """None without a deadline, or where nothing is known of the machine."""

    @classmethod
    def of(cls, lookout: Lookout, ahead: Ahead, depth: int, interrupt: Interrupt) -> Foreseen:
        """What the engine's pace says."""
        pace, seconds = lookout.pace, interrupt.remaining()
        if pace is None:
            return cls(ahead, depth, None, None)
        timed = math.isfinite(seconds)
        made = plan([None], ahead, seconds, _costs(lookout, pace, depth)) if timed else None
        return cls(ahead, depth, pace.now(), made)

    @property
    def thinking_tokens(self) -> int:
        """How long each may think."""
        return self.ahead.thinking_tokens if self.made is None else self.made.thinking_tokens

    @property
    def token_s(self) -> float:
        """What a token of each takes; 0 where that is unknown."""
        if self.rates is None:
            return 0.0
        after = self.depth + self.ahead.question_tokens
        return self.rates.tokens_s(1, after, beside=min(self.ahead.questions, SIDE_BY_SIDE))

    def told(self, answer: Answer) -> Answer:
        """An answer, with what it was thought to take and what it did without."""
        if self.rates is None:
            return answer
        tokens = answer.usage.completion_tokens
        predicted = self._question_s + self._tokens_s(tokens)
        degraded = None
        if self.made is not None:
            thought = answer.usage.thinking_tokens
            degraded = given_up_in_answer(
                self.ahead,
                self.made,
                thought=thought,
                said=tokens - thought,
                out_of_time=answer.finish_reason == "deadline",
            )
        timings = replace(answer.timings, predicted_s=predicted)
        return replace(answer, timings=timings, degraded=degraded)

    def learn_from(self, answers: Sequence[Answer], lookout: Lookout) -> None:
        """Compare with what it took. What was cut short while the question was read is left out."""
        if self.rates is None or lookout.pace is None or not answers:
            return
        if any(answer.timings.first_token_s is None for answer in answers):
            return
        prefill_s = sum(answer.timings.prefill_s or 0.0 for answer in answers)
        lookout.pace.observe("prefill", self._question_s, prefill_s)
        tokens = max(answer.usage.completion_tokens for answer in answers)
        generate_s = sum(answer.timings.generate_s or 0.0 for answer in answers)
        lookout.pace.observe("token", self._tokens_s(tokens), generate_s)

    @property
    def _question_s(self) -> float:
        assert self.rates is not None
        return self.rates.prefill_s(self.ahead.question_tokens, self.depth)

    def _tokens_s(self, tokens: int) -> float:
        """The first of them is chosen by what the question's prefill gave."""
        assert self.rates is not None
        after = self.depth + self.ahead.question_tokens
        return answers_s(self.rates, max(0, tokens - 1), after, self.ahead.questions)


def fitted_for_deadline(fitted: FittedClip, made: Plan) -> FittedClip:
    """A clip that was fitted as planned, saying what it would be with time enough."""
    if made.best is None or made.view is None or made.view == made.best:
        return fitted
    degraded = Degraded("deadline", made.best.measure(), made.view.measure())
    return replace(fitted, degraded=degraded)


def seen_in_time(fitted: FittedClip, prefilled: Prefilled) -> FittedClip:
    """A clip, saying so where pairs of it were left out while time ran short."""
    late = prefilled.savings.late if prefilled.savings is not None else 0
    if not late:
        return fitted
    seen = View(len(fitted.frames), fitted.size, tuple(map(_tokens, fitted.patches)))
    asked = seen.measure()
    if fitted.degraded is not None and fitted.degraded.reason == "deadline":
        asked = fitted.degraded.asked
    used = replace(seen, frames=seen.frames - 2 * late, patches=seen.patches[late:])
    return replace(fitted, degraded=Degraded("deadline", asked, used.measure()))


def _tokens(frames: Sequence[RGB]) -> int:
    height, width, _ = frames[0].shape
    return int(height * width) // TOKEN_PIXELS**2


def learned(pace: Pace | None, clip: Clip, shown: int, began: float) -> None:
    """Frames of a clip were resized since `began`, by time.perf_counter()."""
    if pace is not None:
        width, height = clip.frames[0].size
        predicted = pace.now().resize * shown * width * height
        pace.observe("resize", predicted, time.perf_counter() - began)


def _costs(lookout: Lookout, pace: Pace, depth: int) -> Costs:
    return Costs(
        pace.now(),
        timed_batch=min(TIMED_TOKENS, lookout.context.n_batch),
        depth=depth,
        margin=pace.margin,
    )


def both(look_s: float | None, after_s: float | None) -> float | None:
    """Seconds of a look and of what came after it; None where either was not predicted."""
    return None if look_s is None or after_s is None else look_s + after_s
