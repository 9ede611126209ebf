"""What fits into a deadline, before work starts. Pure functions of facts and rates.

What is given up, in this order, until the rest fits: thinking; the length of the answer, down to a
short one; the frames' size, down to 64 visual tokens a pair; frames, down to one pair; the
answer's length again, down to a few words; the last pair's size. The question and the rules
themselves are never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from miloco_edge.engine.rates import Rates
from miloco_edge.types import Degraded

ANSWER_TOKENS, THINKING_TOKENS = 512, 1024
"""Most of an answer and of a thought unless the budget says otherwise."""
SIDE_BY_SIDE = 16
"""Most answers that are generated at the same time."""
SHORT_ANSWER, FEW_WORDS = 32, 8
"""Tokens of an answer."""
LEAST_THOUGHT = 16
"""Tokens of thinking that are worth to be begun."""
FLOOR_TOKENS = 64
"""Visual tokens of a pair; the last one is made smaller only after the answer was."""
LEAST_VIEW = 16
"""Visual tokens (112x112) below which nothing is planned."""
_STEP = 0.85
"""Each way to show a clip has so much of the visual tokens of the one before it."""

GivenUp = Literal["thinking", "answer", "size", "frames"]


@dataclass(frozen=True)
class View:
    """One way to show a clip."""

    frames: int
    size: tuple[int, int]
    """(width, height) of the first frame."""
    patches: tuple[int, ...]
    """Visual tokens of each temporal patch or picture."""
    budget: int = 0
    """Visual tokens that it was fitted to: as many as it takes, or a few more."""
    source_pixels: int = 0
    """Of all its frames, before they are resized."""

    @property
    def visual_tokens(self) -> int:
        """Of all patches."""
        return sum(self.patches)

    def measure(self) -> dict[str, int | float]:
        """As `Degraded` tells it."""
        width, height = self.size
        return {
            "frames": self.frames,
            "width": width,
            "height": height,
            "visual_tokens": self.visual_tokens,
        }


@dataclass(frozen=True)
class Ahead:
    """What comes after the look, in tokens."""

    question_tokens: int = 0
    """Of all questions, what those that are answered side by side have in common once."""
    questions: int = 0
    """Answers, generated side by side or, where they are many, one group after the other."""
    rule_tokens: int = 0
    """Of all rules, what they have in common once."""
    thinking_tokens: int = 0
    answer_tokens: int = 0
    """Most of each answer."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, and how long it is thought to take."""

    view: View | None
    """None where nothing is looked at: the scene is there already."""
    thinking_tokens: int
    answer_tokens: int
    look_s: float
    """Resizing, the ViT and the prefill of the visual tokens."""
    after_s: float
    """Decisions and answers, if those are as long as planned."""
    best: View | None
    """What would be shown with time enough."""
    given_up: tuple[GivenUp, ...]
    fits: bool
    """Whether it is thought to be in time; if not, it is the least that there is."""

    @property
    def predicted_s(self) -> float:
        """All of it."""
        return self.look_s + self.after_s


@dataclass(frozen=True)
class Costs:
    """Rates, and how far they may be off."""

    rates: Rates
    timed_batch: int
    """Tokens of one call of a decision under a deadline."""
    depth: int
    """Tokens in the sequence before the look, or the question where there is none."""
    margin: float = 1.0
    """So many times what is predicted has to fit."""

    def look_s(self, view: View | None) -> float:
        """Seconds until a clip is in the cache."""
        if view is None:
            return 0.0
        return (
            self.rates.resize * view.source_pixels
            + self.rates.vision_s(view.patches)
            + self.rates.prefill_s(view.visual_tokens, self.depth)
        )

    def after_s(self, view: View | None, ahead: Ahead, tokens: int) -> float:
        """Seconds of decisions and of answers of so many tokens each, thinking included."""
        depth = self.depth + (view.visual_tokens if view else 0)
        seconds = 0.0
        if ahead.rule_tokens:
            seconds += self.rates.decide_s(ahead.rule_tokens, depth, batch=self.timed_batch)
        if ahead.questions:
            after = depth + ahead.question_tokens
            seconds += self.rates.prefill_s(ahead.question_tokens, depth)
            seconds += answers_s(self.rates, tokens, after, ahead.questions)
        return seconds


def answers_s(rates: Rates, tokens: int, depth: int, questions: int) -> float:
    """Seconds of answers of so many tokens each, as many side by side as there may be."""
    groups, rest = divmod(questions, SIDE_BY_SIDE)
    seconds = groups * rates.tokens_s(tokens, depth, beside=SIDE_BY_SIDE)
    return seconds + (rates.tokens_s(tokens, depth, beside=rest) if rest else 0.0)


def plan(views: Iterable[View | None], ahead: Ahead, seconds: float, costs: Costs) -> Plan:
    """The most that fits into `seconds`, by the order at the top of this module.

    `views` are the ways to show the clip, the best first, at least one; they are drawn one by one.
    """
    answer = ahead.answer_tokens if ahead.questions else 0
    thinking = ahead.thinking_tokens if ahead.questions else 0
    short, few = min(answer, SHORT_ANSWER), min(answer, FEW_WORDS)
    best: View | None = None
    last: tuple[View | None, int, int, bool] | None = None

    def fits(view: View | None, tokens: int) -> bool:
        predicted = costs.look_s(view) + costs.after_s(view, ahead, tokens)
        return predicted * costs.margin <= seconds

    longest, past_floor = answer, False
    for view in views:
        this = partial(fits, view)
        if last is None:
            best = view
            if this(answer):
                more = most(answer, answer + thinking, this) - answer
                if more < min(thinking, LEAST_THOUGHT):
                    more = 0
                last = view, more, answer, True
                break
        floor = view is None or (len(view.patches) == 1 and view.patches[0] <= FLOOR_TOKENS)
        told = most(few if floor else short, longest, this)
        last = view, 0, told, this(told)
        if last[3]:
            break
        past_floor = past_floor or floor
        longest = few if past_floor else short
    if last is None:
        raise ValueError("expected at least one way to show the clip, got none")
    view, thought, told, in_time = last
    given_up: list[GivenUp] = []
    if thought < thinking:
        given_up.append("thinking")
    if told < answer:
        given_up.append("answer")
    if view is not None and best is not None:
        if max(view.patches) < max(best.patches):
            given_up.append("size")
        if view.frames < best.frames:
            given_up.append("frames")
    look_s = costs.look_s(view)
    after_s = costs.after_s(view, ahead, thought + told)
    return Plan(view, thought, told, look_s, after_s, best, tuple(given_up), in_time)


def most(least: int, longest: int, fits: Callable[[int], bool]) -> int:
    """The most of `least` to `longest` that fits, where less fits whenever more does."""
    while least < longest:
        middle = (least + longest + 1) // 2
        if fits(middle):
            least = middle
        else:
            longest = middle - 1
    return least


def budgets(visual_tokens: int) -> Sequence[int]:
    """Visual tokens to try for a clip that would take so many, the most first."""
    found, wanted = [visual_tokens], float(visual_tokens)
    while found[-1] > LEAST_VIEW:
        wanted = max(wanted * _STEP, LEAST_VIEW)
        if int(wanted) < found[-1]:
            found.append(int(wanted))
    return found


def spread(items: Sequence[int]) -> list[int]:
    """The last, the first, then the middle of every gap: each beginning is spread evenly."""
    order, gaps = [*items[-1:], *items[: len(items) - 1][:1]], [(0, len(items) - 1)]
    while gaps:
        first, last = gaps.pop(0)
        if last - first > 1:
            middle = (first + last) // 2
            order.append(items[middle])
            gaps += [(first, middle), (middle, last)]
    return order


def given_up_in_answer(
    ahead: Ahead, made: Plan, *, thought: int, said: int, out_of_time: bool
) -> Degraded | None:
    """What an answer did without for its deadline: only what it would have used."""
    asked: dict[str, int | float] = {}
    used: dict[str, int | float] = {}
    if made.thinking_tokens < ahead.thinking_tokens and thought >= made.thinking_tokens:
        asked["thinking_tokens"], used["thinking_tokens"] = ahead.thinking_tokens, thought
    if out_of_time:
        asked["answer_tokens"], used["answer_tokens"] = ahead.answer_tokens, said
    return Degraded("deadline", asked, used) if asked else None
