from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miloco_edge.engine.protocol import Pending, Seen, refused
from miloco_edge.errors import ClosedError, EngineDownError, MilocoEdgeError
from miloco_edge.hub.event import Event
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.zoom import cut_out, decide
from miloco_edge.types import Budget, Decision, Degraded, Timings, Usage
from miloco_edge.video import Clip
from miloco_edge.video.played import Pushed
from tests.hub.home import FakeEngine, home, states, until

WAVES = Rule("waves", "A hand waves", cameras=("hall",), zoom=True)
EMPTY = Rule("empty", "Nobody is there", cameras=("hall",))
BOX = (0.5, 0.25, 0.75, 0.75)


def clip() -> Clip:
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[20:60, 60:90] = 200
    return Clip.from_frames([pixels, pixels // 2], 2.0)


def test_what_moves_is_cut_out() -> None:
    close = cut_out(clip(), BOX)
    assert [frame.pixels.shape for frame in close.frames] == [(40, 30, 3)] * 2
    assert (close.frames[0].pixels == 200).all()
    assert close.times_s == clip().times_s
    assert cut_out(clip(), (0.9999, 0, 1, 0.001)).frames[0].size == (1, 1)


class Scripted(FakeEngine):
    """Says what it is told to of each look in turn."""

    def __init__(self, *looks: list[float | None] | Exception) -> None:
        super().__init__()
        self.looks = list(looks)

    def decide(self, clip: Clip, rules: Any, *, budget: Budget | None = None) -> Pending[Seen]:
        self.shown.append((clip, list(rules), budget or Budget()))
        said = self.looks.pop(0)
        if isinstance(said, Exception):
            return refused(said)
        made = tuple(
            Decision(rule, "unknown", None, None, "none", "deadline")
            if p is None
            else Decision(rule, "yes" if p > 0.5 else "no", p, 0.0, "logits")
            for rule, p in zip(rules, said, strict=True)
        )
        future: Future[Seen] = Future()
        future.set_result(Seen(made, Usage(prompt_tokens=10), Timings(total_s=1.0)))
        return Pending(future, lambda: None)


@pytest.mark.parametrize(
    ("whole", "close", "answer"),
    [(0.2, 0.9, "yes"), (0.8, 0.1, "yes"), (0.2, 0.1, "no"), (None, 0.1, "no"), (0.3, None, "no")],
)
def test_the_view_that_is_surer_of_yes_counts(
    whole: float | None, close: float | None, answer: str
) -> None:
    engine = Scripted([0.7, whole], [close])
    seen = decide(engine, clip(), [EMPTY, WAVES], Budget(), BOX).result()
    assert [d.answer for d in seen.decisions] == ["yes", answer]
    assert [d.rule for d in seen.decisions] == [EMPTY.text, WAVES.text]
    assert engine.shown[1][1] == [WAVES.text], "a rule that does not zoom is asked once"
    late = Degraded("deadline", {"closer_rules": 1}, {"closer_rules": 0})
    assert seen.degraded == (late if close is None else None)
    assert (seen.usage.prompt_tokens, seen.timings.total_s) == (20, 2.0)


def test_a_second_view_that_fails_costs_nothing_but_itself() -> None:
    engine = Scripted([0.7], MilocoEdgeError("kept out"))
    assert decide(engine, clip(), [WAVES], Budget(), BOX).result().decisions[0].answer == "yes"
    engine = Scripted(EngineDownError("it died"), [0.9])
    with pytest.raises(EngineDownError):
        decide(engine, clip(), [WAVES], Budget(), BOX).result()


@pytest.mark.parametrize(("seconds", "views"), [(0.05, 1), (60.0, 2)])
def test_a_second_view_waits_for_the_first_and_is_left_out_where_it_would_be_late(
    seconds: float, views: int
) -> None:
    engine = FakeEngine(seconds=0.04)
    budget = Budget(visual_tokens=64, seconds=seconds)
    pending = decide(engine, clip(), [WAVES], budget, BOX)
    assert len(engine.shown) == 1, "both at once would take each other's time"
    told = pending.result(30).degraded
    assert len(engine.shown) == views
    assert (told is None) == (views == 2), "what was left out is told"
    assert told is None or (told.reason, told.used) == ("deadline", {"closer_rules": 0})
    given = [shown[2] for shown in engine.shown]
    assert given[0] == budget and all(each.visual_tokens == 64 for each in given)
    assert all((each.seconds or 0) < seconds for each in given[1:]), "what is left"


def test_without_time_to_spare_there_is_one_view_and_that_is_told() -> None:
    engine = Scripted([0.2, 0.7])
    seen = decide(engine, clip(), [WAVES, EMPTY], Budget(), BOX, spare=False).result(5)
    assert [decision.answer for decision in seen.decisions] == ["no", "yes"]
    assert seen.degraded == Degraded("overload", {"closer_rules": 1}, {"closer_rules": 0})


def test_an_engine_that_is_closed_between_two_views_has_decided_by_the_first() -> None:
    class Closing(Scripted):
        def decide(self, clip: Clip, rules: Any, *, budget: Budget | None = None) -> Pending[Seen]:
            if self.shown:
                raise ClosedError("expected an open engine, got one that was closed")
            return super().decide(clip, rules, budget=budget)

    seen = decide(Closing([0.7]), clip(), [WAVES], Budget(), BOX).result(5)
    assert seen.decisions[0].answer == "yes"


def test_without_motion_or_a_rule_that_zooms_there_is_one_view() -> None:
    engine = Scripted([0.7], [0.7])
    decide(engine, clip(), [WAVES], Budget(), None).result()
    decide(engine, clip(), [replace(WAVES, zoom=False)], Budget(), BOX).result()
    assert len(engine.shown) == 2


def test_a_cancelled_window_cancels_both_views() -> None:
    engine = FakeEngine(seconds=60)
    pending = decide(engine, clip(), [WAVES], Budget(), BOX)
    pending.cancel()
    assert pending.future.result(5).decisions


def test_the_hub_sees_what_is_small(tmp_path: Path) -> None:
    """A lamp that is too small to make the picture bright makes its part of it so."""
    events: list[Event] = []
    pushed = Pushed("hall")
    random = np.random.default_rng(3)
    picture = random.integers(80, 150, (6, 8, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)

    def show(level: int) -> bool:
        lit = picture.copy()
        lit[40:70, 60:90] = np.maximum(lit[40:70, 60:90], level)
        pushed.push(lit + random.integers(0, 3, lit.shape, dtype=np.uint8))
        return True

    rules = (
        Rule("small", "A lamp is lit", cameras=("hall",), zoom=True),
        Rule("whole", "The room is bright", cameras=("hall",)),
    )
    engine = FakeEngine()
    with Hub(home(tmp_path, *rules), engine, sources={"hall": pushed}) as hub:
        hub.on_event(events.append)
        until(lambda: show(0) and engine.shown)
        until(lambda: show(250) and events)
    assert states(events) == ["on"] and events[0].rule.id == "small"
    closest = min((shown[0] for shown in engine.shown), key=lambda c: c.frames[0].pixels.size)
    assert closest.frames[0].size < (160, 120)
