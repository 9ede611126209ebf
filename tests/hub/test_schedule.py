from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miloco_edge.hub.schedule import ALWAYS, DAYS, Schedule

MONDAY = datetime(2026, 11, 16)


def at(day: str, time: str) -> datetime:
    hour, minute = map(int, time.split(":"))
    return MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("spans", "inside", "outside"),
    [
        (["08:00-18:30"], ["mon 08:00", "sun 18:29"], ["mon 07:59", "sun 18:30"]),
        (["22:00-06:00"], ["mon 22:00", "tue 05:59", "mon 00:00"], ["mon 21:59", "tue 06:00"]),
        (
            ["fri 22:00-06:00"],
            ["fri 22:00", "fri 23:59", "sat 00:00", "sat 05:59"],
            ["fri 05:00", "sat 06:00", "sat 22:00", "thu 23:00"],
        ),
        (["sun 22:00-06:00"], ["mon 01:00"], ["tue 01:00", "sun 01:00"]),
        (["mon-fri 00:00-24:00"], ["mon 00:00", "fri 23:59"], ["sat 00:00", "sun 23:59"]),
        (["sat-mon 10:00-11:00"], ["sat 10:00", "sun 10:30", "mon 10:59"], ["tue 10:30"]),
        (["sat,sun 10:00-11:00"], ["sun 10:00"], ["fri 10:00"]),
        (["mon,wed-fri 10:00-11:00"], ["mon 10:00", "thu 10:00"], ["tue 10:00"]),
        (["Mon 10:00-11:00", "tue 12:00-13:00"], ["mon 10:00", "tue 12:00"], ["tue 10:00"]),
        (["18:00-00:00"], ["mon 23:59"], ["mon 00:00", "mon 17:59"]),
    ],
)  # fmt: skip
def test_spans(spans: list[str], inside: list[str], outside: list[str]) -> None:
    schedule = Schedule.parse(*spans)
    for moment in inside:
        assert schedule.covers(at(*moment.split())), moment
    for moment in outside:
        assert not schedule.covers(at(*moment.split())), moment


def test_no_span_is_always() -> None:
    assert ALWAYS.covers(MONDAY)
    assert Schedule.parse() == ALWAYS


@pytest.mark.parametrize(
    "text",
    ["", "8-9", "25:00-26:00", "08:60-09:00", "24:00-08:00", "08:00-08:00", "funday 08:00-09:00",
     "mon- 08:00-09:00", "mon,,tue 08:00-09:00", "08:00-24:30", "08:00 09:00"],
)  # fmt: skip
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Schedule.parse(text)


@given(st.integers(0, 6), st.integers(0, 1439), st.integers(1, 1440), st.integers(0, 7 * 1440 - 1))
def test_over_midnight_is_the_sum_of_two_days(day: int, start: int, end: int, minute: int) -> None:
    """A span over midnight covers what its two halves cover."""
    if start <= end:
        return
    text = f"{DAYS[day]} {start // 60:02}:{start % 60:02}-"
    until = f"{end // 60:02}:{end % 60:02}"
    whole = Schedule.parse(text + until)
    halves = Schedule.parse(text + "24:00", f"{DAYS[(day + 1) % 7]} 00:00-{until}")
    moment = MONDAY + timedelta(minutes=minute)
    assert whole.covers(moment) == halves.covers(moment)
