"""What a rule means: from single decisions to "it is so", "it happened" and "it is over".

Pure functions: a rule, what is remembered of it on one camera, a decision and its time give new
memory and what changed. Times are seconds of one steady clock (`time.monotonic`), so that a clock
that is set does not disturb them; only the schedule knows the time of day.

    memory = Memory()
    memory, changes = step(rule, memory, decision, time_s)      # a decision came
    memory, changes = step(rule, memory, None, time_s)          # time went by
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from miloco_edge.hub.schedule import ALWAYS, Schedule
from miloco_edge.types import Decision

Kind = Literal["state", "event"]
State = Literal["on", "off", "fired", "unknown"]


@dataclass(frozen=True)
class Rule:
    """A sentence that is to be true or false of what some cameras see, and what to make of it.

    Each camera (and zone) that it applies to has a `Memory` of its own.
    """

    id: str
    text: str
    cameras: tuple[str, ...] = ()
    """Ids of cameras."""
    zone: str | None = None
    """The part of the picture that it is about: a zone that each of its cameras has."""
    kind: Kind = "state"
    """A state is told when it begins and when it ends, an event once each time it happens."""
    agree: int = 1
    """How many of the last `of` decisions have to say yes; they are no longer enough once more
    than `of - agree` say no."""
    of: int = 1
    within_s: float = 60.0
    """Decisions older than this, seen from the newest, no longer count."""
    min_on_s: float = 0.0
    """Once on, it stays on for at least so long."""
    min_off_s: float = 0.0
    """Once off, it stays off for at least so long; an event that comes back sooner is the same."""
    cooldown_s: float = 0.0
    """After it was told, it is not told again before so long."""
    schedule: Schedule = ALWAYS
    priority: int = 0
    """Higher goes first."""
    deadline_s: float | None = None
    """Seconds from the window's end within which the answer is of use."""
    zoom: bool = False
    """Whether what moves is looked at closely as well, and a yes there counts."""

    def __post_init__(self) -> None:
        if not 1 <= self.agree <= self.of:
            raise ValueError(f"Rule.agree: expected from 1 to `of`, got {self.agree} of {self.of}")
        for name in ("min_on_s", "min_off_s", "cooldown_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Rule.{name}: expected 0 or more, got {getattr(self, name)}")
        for name in ("within_s", "deadline_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Rule.{name}: expected more than 0, got {value}")


@dataclass(frozen=True)
class Memory:
    """What is remembered of a rule on one camera. Times are seconds of the steady clock."""

    votes: tuple[tuple[float, bool], ...] = ()
    """When the last decisions were made and whether they said yes; newest last."""
    on: bool = False
    since_s: float | None = None
    """When `on` last changed."""
    told_s: float | None = None
    """When it was last told that it is on, or happened."""
    blind_s: float | None = None
    """Since when it cannot be seen; None while it can."""
    latest_s: float | None = None
    """When the last decision was made, known or not."""
    p_yes: float | None = None
    """The last that is known."""
    resting: bool = False
    """Whether it was off duty when time last went by."""


@dataclass(frozen=True)
class Change:
    """What is to be told."""

    state: State
    time_s: float
    since_s: float
    """When this state began: earlier than `time_s` where it was already told before."""
    p_yes: float | None = None
    reason: str | None = None
    """A short machine word: why it is unknown; `schedule` where the rule went off duty;
    `seen_again` where a state that was told before can be seen again and is unchanged."""


Step = tuple[Memory, tuple[Change, ...]]


def step(
    rule: Rule, memory: Memory, decision: Decision | None, time_s: float, *, on_duty: bool = True
) -> Step:
    """What a decision about a window that ended at `time_s` changes, or time alone (None).

    A decision that is not newer than the last is refused. An unknown one never turns a rule on or
    off: the first of a row is told, and when it can be seen again the state is told again, with
    `seen_again`, unless it has changed meanwhile. `on_duty` says whether the schedule covers the
    moment: off duty nothing is examined, and what was on is told to be over.
    """
    if not on_duty:
        return _off_duty(rule, memory, time_s)
    memory = replace(memory, resting=False) if memory.resting else memory
    if decision is not None:
        if memory.latest_s is not None and time_s <= memory.latest_s:
            return memory, ()
        memory = replace(memory, latest_s=time_s)
        if decision.answer == "unknown":
            return _unseen(memory, decision, time_s)
        votes = (*memory.votes, (time_s, decision.answer == "yes"))[-rule.of :]
        memory = replace(
            memory,
            votes=tuple(vote for vote in votes if time_s - vote[0] <= rule.within_s),
            p_yes=decision.p_yes,
        )
    elif memory.blind_s is not None:
        return memory, ()
    return _judged(rule, memory, time_s)


def holds(rule: Rule, memory: Memory) -> bool | None:
    """Whether enough of the last decisions say yes; None where more are needed to tell."""
    yes = sum(vote for _, vote in memory.votes)
    if yes >= rule.agree:
        return True
    return False if len(memory.votes) - yes > rule.of - rule.agree else None


def unsettled(rule: Rule, memory: Memory) -> bool:
    """Whether another look would tell more, even at a picture that has not changed.

    So it is where the last decisions are too few to tell, where the newest disagrees with most of
    them, and where the picture could not be seen; never for a rule that is off duty.
    """
    if memory.resting:
        return False
    if not memory.votes or memory.blind_s is not None:
        return True
    return memory.votes[-1][1] != holds(rule, memory)


def _judged(rule: Rule, memory: Memory, time_s: float) -> Step:
    held = holds(rule, memory)
    if held is None:
        return memory, ()
    seen_again = memory.blind_s is not None
    memory = replace(memory, blind_s=None)
    if held and not memory.on:
        turned = _turned_on(rule, memory, time_s)
    elif memory.on and not held and _past(memory.since_s, rule.min_on_s, time_s):
        over = Change("off", time_s, time_s, memory.p_yes)
        turned = (
            replace(memory, on=False, since_s=time_s),
            (over,) if rule.kind == "state" else (),
        )
    else:
        turned = None
    if turned is not None:
        return turned
    if seen_again and rule.kind == "state":
        return memory, (_still(memory, time_s),)
    return memory, ()


def _turned_on(rule: Rule, memory: Memory, time_s: float) -> Step | None:
    rested = _past(memory.since_s, rule.min_off_s, time_s)
    cooled = _past(memory.told_s, rule.cooldown_s, time_s)
    on = replace(memory, on=True, since_s=time_s)
    if rested and cooled:
        state: State = "on" if rule.kind == "state" else "fired"
        return replace(on, told_s=time_s), (Change(state, time_s, time_s, memory.p_yes),)
    # A state that lasts is told later; an event that came too soon is over by then.
    return (on, ()) if rule.kind == "event" else None


def _unseen(memory: Memory, decision: Decision, time_s: float) -> Step:
    if memory.blind_s is not None:
        return memory, ()
    change = Change("unknown", time_s, time_s, decision.p_yes, decision.reason)
    return replace(memory, blind_s=time_s), (change,)


def _still(memory: Memory, time_s: float) -> Change:
    since_s = time_s if memory.since_s is None else memory.since_s
    return Change("on" if memory.on else "off", time_s, since_s, memory.p_yes, "seen_again")


def _off_duty(rule: Rule, memory: Memory, time_s: float) -> Step:
    rested = replace(memory, votes=(), on=False, resting=True)
    if not memory.on:
        return rested, ()
    rested = replace(rested, since_s=time_s, blind_s=None)
    over = Change("off", time_s, time_s, memory.p_yes, "schedule")
    return rested, (over,) if rule.kind == "state" else ()


def _past(begun_s: float | None, least_s: float, time_s: float) -> bool:
    return begun_s is None or time_s - begun_s >= least_s
