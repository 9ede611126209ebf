"""Every transition of a rule, and what holds for any run of decisions."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miloco_edge.hub.rules import Change, Memory, Rule, holds, step, unsettled
from miloco_edge.types import Decision

YES = Decision("r", "yes", 0.9, 0.0, "logits")
NO = Decision("r", "no", 0.1, 0.0, "logits")
DARK = Decision("r", "unknown", None, None, "none", "black")
ANSWERS = {"y": YES, "n": NO, "?": DARK, ".": None}


def rule(**options: Any) -> Rule:
    return Rule("r", "Someone reads", ("hall",), **options)


def run(text: str, tried: Rule, memory: Memory | None = None) -> list[tuple[int, str, str | None]]:
    """Answers a second apart, from second 1; what is told: when, the state, the reason."""
    memory = memory or Memory()
    told = []
    for time_s, letter in enumerate(text, 1):
        memory, changes = step(tried, memory, ANSWERS[letter], time_s)
        told += [(round(change.time_s), change.state, change.reason) for change in changes]
    return told


@pytest.mark.parametrize(
    ("options", "answers", "told"),
    [
        # A state is told when it begins and when it ends, once each.
        ({}, "nyyynn", [(2, "on", None), (5, "off", None)]),
        ({}, "yyy", [(1, "on", None)]),
        ({}, "nnn", []),
        # An event is told once each time.
        ({"kind": "event"}, "nyyynny", [(2, "fired", None), (7, "fired", None)]),
        # Agreement: two of the last three, both ways.
        ({"agree": 2, "of": 3}, "nynyyny", [(4, "on", None)]),
        ({"agree": 2, "of": 3}, "nnynnyn", []),
        ({"agree": 2, "of": 3}, "yy", [(2, "on", None)]),
        ({"agree": 1, "of": 3}, "nynnnn", [(2, "on", None), (5, "off", None)]),
        ({"agree": 3, "of": 3}, "yyyn", [(3, "on", None), (4, "off", None)]),
        # What is older than within_s does not count.
        ({"agree": 2, "of": 3, "within_s": 2}, "y....y.y", [(8, "on", None)]),
        # Once on, it stays on for a while; the end is told when that is over, look or no look.
        ({"min_on_s": 3}, "ynn.nn", [(1, "on", None), (4, "off", None)]),
        ({"min_on_s": 3}, "ynyyyn", [(1, "on", None), (6, "off", None)]),
        # Once off, it stays off for a while.
        ({"min_off_s": 3}, "ynyyyyy", [(1, "on", None), (2, "off", None), (5, "on", None)]),
        ({"min_off_s": 3}, "ynynnn", [(1, "on", None), (2, "off", None)]),
        # An event that comes back so soon is the same one.
        ({"kind": "event", "min_off_s": 3}, "ynyyyy", [(1, "fired", None)]),
        ({"kind": "event", "min_off_s": 3}, "ynnnnny", [(1, "fired", None), (7, "fired", None)]),
        # After it was told, it is not told again for a while.
        ({"cooldown_s": 4}, "ynyyyy", [(1, "on", None), (2, "off", None), (5, "on", None)]),
        (
            {"cooldown_s": 4, "kind": "event"},
            "ynyyyyynny",
            [(1, "fired", None), (10, "fired", None)],
        ),
        # What cannot be seen flips nothing, is told once, and so is that it can be seen again.
        (
            {},
            "y???y",
            [(1, "on", None), (2, "unknown", "black"), (5, "on", "seen_again")],
        ),
        ({}, "y??n", [(1, "on", None), (2, "unknown", "black"), (4, "off", None)]),
        ({}, "?n", [(1, "unknown", "black"), (2, "off", "seen_again")]),
        ({}, "?y", [(1, "unknown", "black"), (2, "on", None)]),
        ({"kind": "event"}, "y??y", [(1, "fired", None), (2, "unknown", "black")]),
        # Blind, time alone ends nothing.
        ({"min_on_s": 3}, "yn?....", [(1, "on", None), (3, "unknown", "black")]),
        # Seen again, but too little agrees yet: it waits.
        (
            {"agree": 2, "of": 2, "within_s": 3},
            "yy?.....yy",
            [(2, "on", None), (3, "unknown", "black"), (10, "on", "seen_again")],
        ),
    ],
)  # fmt: skip
def test_transitions(
    options: dict[str, Any], answers: str, told: list[tuple[int, str, str | None]]
) -> None:
    assert run(answers, rule(**options)) == told


def test_a_change_says_since_when_and_how_sure() -> None:
    memory, changes = step(rule(), Memory(), YES, 10.0)
    assert changes == (Change("on", 10.0, 10.0, 0.9),)
    memory, _ = step(rule(), memory, DARK, 12.0)
    memory, changes = step(rule(), memory, YES, 14.0)
    assert changes == (Change("on", 14.0, 10.0, 0.9, "seen_again"),)


def test_off_duty_ends_what_was_on_and_starts_afresh() -> None:
    memory, _ = step(rule(), Memory(), YES, 1.0)
    memory, changes = step(rule(), memory, None, 2.0, on_duty=False)
    assert [(c.state, c.reason) for c in changes] == [("off", "schedule")]
    memory, changes = step(rule(), memory, YES, 3.0, on_duty=False)
    assert changes == ()
    memory, changes = step(rule(), memory, None, 4.0)
    assert changes == ()
    memory, changes = step(rule(), memory, YES, 5.0)
    assert [c.state for c in changes] == ["on"]
    memory, _ = step(rule(kind="event"), Memory(), YES, 1.0)
    assert step(rule(kind="event"), memory, None, 2.0, on_duty=False)[1] == ()


def test_what_could_not_be_seen_before_off_duty_is_told_again_after_it() -> None:
    memory, _ = step(rule(), Memory(), NO, 1.0)
    memory, _ = step(rule(), memory, DARK, 2.0)
    memory, _ = step(rule(), memory, None, 3.0, on_duty=False)
    memory, changes = step(rule(), memory, DARK, 4.0)
    assert changes == (), "it was told"
    memory, changes = step(rule(), memory, NO, 5.0)
    assert [(c.state, c.reason) for c in changes] == [("off", "seen_again")]
    memory, _ = step(rule(), memory, YES, 6.0)
    memory, _ = step(rule(), memory, DARK, 7.0)
    memory, changes = step(rule(), memory, None, 8.0, on_duty=False)
    assert [(c.state, c.reason) for c in changes] == [("off", "schedule")]
    assert step(rule(), memory, NO, 9.0)[1] == (), "it was told to be over"


def test_a_decision_about_an_older_window_is_refused() -> None:
    memory, _ = step(rule(), Memory(), YES, 10.0)
    for late in (10.0, 9.0):
        assert step(rule(), memory, NO, late) == (memory, ())


def test_what_is_unsettled_wants_another_look() -> None:
    tried = rule(agree=2, of=3)
    assert unsettled(tried, Memory())
    memory = Memory()
    for time_s, (answer, wanted) in enumerate(
        [("y", True), ("y", False), ("n", True), ("n", False), ("?", True), ("n", False)], 1
    ):
        memory, _ = step(tried, memory, ANSWERS[answer], time_s)
        assert unsettled(tried, memory) == wanted, (time_s, answer)
    memory, _ = step(tried, memory, None, 9.0, on_duty=False)
    assert not unsettled(tried, memory), "off duty it wants none"
    memory, _ = step(tried, memory, None, 10.0)
    assert unsettled(tried, memory)


def test_waiting_for_a_minimum_time_needs_no_look() -> None:
    tried = rule(min_on_s=100)
    memory, _ = step(tried, Memory(), YES, 1.0)
    memory, _ = step(tried, memory, NO, 2.0)
    assert memory.on
    assert not unsettled(tried, memory)


@pytest.mark.parametrize(
    "options",
    [
        {"agree": 0},
        {"agree": 3, "of": 2},
        {"min_on_s": -1},
        {"cooldown_s": float("nan")},
        {"within_s": 0},
        {"deadline_s": 0},
    ],
)
def test_a_rule_without_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Rule\.\w+: expected"):
        rule(**options)


rules = st.builds(
    lambda kind, of, share, times: rule(
        kind=kind,
        of=of,
        agree=max(1, round(of * share)),
        min_on_s=times[0],
        min_off_s=times[1],
        cooldown_s=times[2],
        within_s=times[3] + 1,
    ),
    st.sampled_from(["state", "event"]),
    st.integers(1, 5),
    st.floats(0, 1),
    st.tuples(*[st.integers(0, 12)] * 4),
)
moments = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("yyynnn??.x")), min_size=1, max_size=60
)


@given(rules, moments)
def test_what_holds_for_every_run(tried: Rule, run: list[tuple[int, str]]) -> None:
    memory, time_s, told = Memory(), 0.0, list[Change]()
    for gap, letter in run:
        time_s += gap
        before = memory
        on_duty = letter != "x"
        decision = ANSWERS.get(letter)
        memory, changes = step(tried, memory, decision, time_s, on_duty=on_duty)
        if letter == "?" or not on_duty:
            assert not (memory.on and not before.on), "nothing unseen turns it on"
        if letter == "?" or (before.blind_s is not None and decision is None and on_duty):
            assert memory.on == before.on, "unknown flips nothing"
        if memory.on != before.on and on_duty:
            assert holds(tried, memory) == memory.on
        assert len(changes) <= 1
        assert len(memory.votes) <= tried.of
        told += changes
    flips = [c for c in told if c.state != "unknown" and c.reason != "seen_again"]
    if tried.kind == "event":
        assert {c.state for c in told} <= {"fired", "unknown"}
    else:
        assert [c.state for c in flips] == (["on", "off"] * len(flips))[: len(flips)]
    starts = [c.time_s for c in flips if c.state != "off"]
    ends = [c for c in flips if c.state == "off"]
    for first, second in pairwise(starts):
        assert second - first >= tried.cooldown_s
    for start, end in zip(starts, ends, strict=False):
        assert end.reason == "schedule" or end.time_s - start >= tried.min_on_s
    for end, start in zip(ends, starts[1:], strict=False):
        assert start - end.time_s >= tried.min_off_s
    blind = [i for i, c in enumerate(told) if c.state == "unknown"]
    assert all(c.reason == "black" for c in told if c.state == "unknown")
    if tried.kind == "state":
        for i, j in pairwise(blind):
            assert j > i + 1, "a blind spell is told to be over"


@given(rules, st.lists(st.sampled_from("yn?."), max_size=40), st.integers(1, 6))
def test_the_steady_clock_may_begin_anywhere(tried: Rule, letters: list[str], gap: int) -> None:
    def told(begin: float) -> list[tuple[float, str]]:
        memory, found = Memory(), list[tuple[float, str]]()
        for i, letter in enumerate(letters):
            memory, changes = step(tried, memory, ANSWERS[letter], begin + i * gap)
            found += [(c.time_s - begin, c.state) for c in changes]
        return found

    assert told(0.0) == told(1 << 30)


def test_memory_survives_a_round_trip() -> None:
    memory, _ = step(rule(), Memory(), YES, 1.0)
    data = dataclasses.asdict(memory)
    assert Memory(**data) == memory
