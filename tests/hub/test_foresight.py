"""Intervals stretch before deadlines are missed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miloco_edge.hub.foresight import STRETCHES, Demand, stretch, whole_s
from miloco_edge.hub.overload import CALM, LEVELS, Cost, Level, Overload
from miloco_edge.types import Degraded, together

CAMERA = Demand(interval_s=2, takes_s=0.5, passing=1.0, deadline_s=2)
demands = st.lists(
    st.builds(
        Demand,
        st.floats(0.5, 30),
        st.floats(0.01, 10),
        st.floats(0, 1),
        st.none() | st.floats(0.1, 30),
    ),
    max_size=6,
)


@pytest.mark.parametrize(
    ("cameras", "times"),
    [
        ([], 1.0),
        ([CAMERA], 1.0),
        ([CAMERA] * 3, 1.25),
        ([CAMERA] * 4, 1.5),
        ([CAMERA] * 40, 2.0),
        ([replace(CAMERA, deadline_s=None)] * 40, 1.0),
        ([replace(CAMERA, takes_s=3)] * 4, 1.0),  # too late even alone
        ([replace(CAMERA, passing=0.1)] * 4, 1.0),
        ([replace(CAMERA, passing=0.0)] * 4, 1.0),
    ],
)
def test_how_far(cameras: list[Demand], times: float) -> None:
    assert stretch(cameras) == times
    assert stretch(cameras * 2, slots=2) <= times


@given(demands)
def test_it_is_one_of_the_steps_and_grows_with_the_work(cameras: list[Demand]) -> None:
    times = stretch(cameras)
    assert times in STRETCHES
    if any(camera.deadline_s is not None for camera in cameras):
        busier = [replace(c, passing=min(1.0, 2 * c.passing)) for c in cameras]
        assert stretch(busier) >= times
        assert stretch([replace(c, interval_s=2 * c.interval_s) for c in cameras]) <= times


def test_what_was_made_smaller_is_counted_whole() -> None:
    assert whole_s(2.0, 1000, 250) == 8.0
    assert whole_s(2.0, None, None) == 2.0


def test_intervals_are_stretched_at_once_and_frames_give_way_later() -> None:
    overload, cost = Overload(0), Cost(frames=8, visual_tokens=800, interval_s=2)
    assert not overload.foresee([CAMERA])
    assert overload.foresee([CAMERA] * 4)
    assert overload.level == Level(interval=1.5) and overload.step == 0
    told = overload.degraded(cost)
    assert told is not None and told.reason == "overload"
    assert told.used == {"frames": 8, "visual_tokens": 800, "interval_s": 3.0}
    overload.step = LEVELS.index(Level(frames=0.5, size=0.25, interval=4))
    assert overload.level.interval == 4, "the longer of the two"
    overload.step = 0
    for _ in range(CALM - 1):
        assert not overload.foresee([CAMERA])
    assert overload.foresee([CAMERA])
    assert overload.level == Level() and overload.degraded(cost) is None


def test_what_is_predicted_now_so_and_then_so_changes_nothing() -> None:
    overload = Overload(0)
    assert overload.foresee([CAMERA] * 4)
    assert not any(overload.foresee([CAMERA] * (3 + i % 2)) for i in range(5 * CALM))
    assert overload.stretch == 1.5
    for _ in range(CALM):
        overload.foresee([CAMERA] * 3)
    assert overload.stretch == 1.25


def test_what_hub_and_engine_gave_up_is_told_as_one() -> None:
    hub = Degraded("overload", {"frames": 8, "interval_s": 2}, {"frames": 4, "interval_s": 4})
    engine = Degraded("deadline", {"frames": 4, "width": 448}, {"frames": 2, "width": 224})
    both = together(hub, engine)
    assert both is not None and both.reason == "overload"
    assert both.asked == {"frames": 8, "interval_s": 2, "width": 448}
    assert both.used == {"frames": 2, "interval_s": 4, "width": 224}
    assert together(None, engine) is engine and together(hub, None) is hub
    assert together(None, None) is None
