"""When a rule is on duty: days and times of day, in the home's own time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As datetime.weekday() counts them."""

_SPAN = re.compile(r"(?:([a-z,\-]+) +)?(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Span:
    """A stretch of time on some days. One that ends before it begins goes on over midnight."""

    days: frozenset[int]
    """Weekdays on which it begins; Monday is 0."""
    start: int
    """Minutes after midnight."""
    end: int
    """Minutes after midnight, not included; 1440 is the end of the day."""

    def covers(self, local: datetime) -> bool:
        """Whether `local` (time as clocks on the wall show it) lies in it."""
        minute = local.hour * 60 + local.minute
        today, yesterday = local.weekday(), (local.weekday() - 1) % 7
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        return (today in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


@dataclass(frozen=True)
class Schedule:
    """Any of several spans; without a span, always."""

    spans: tuple[Span, ...] = ()

    def covers(self, local: datetime) -> bool:
        """Whether a rule is on duty at `local` (time as clocks on the wall show it)."""
        return not self.spans or any(span.covers(local) for span in self.spans)

    @classmethod
    def parse(cls, *texts: str) -> Schedule:
        """Read spans such as "22:00-06:00", "mon-fri 08:00-18:30" or "sat,sun 00:00-24:00".

        Raises ValueError that says what was expected.
        """
        return cls(tuple(_span(text) for text in texts))


ALWAYS = Schedule()


def _span(text: str) -> Span:
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f'expected days and times such as "mon-fri 22:00-06:00", got {text!r}')
    named, *digits = match.groups()
    hour, minute, end_hour, end_minute = map(int, digits)
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if minute > 59 or end_minute > 59 or start >= _DAY_MINUTES or end > _DAY_MINUTES:
        raise ValueError(f"expected times from 00:00 to 24:00, got {text!r}")
    if start == end:
        raise ValueError(f"expected an end other than the start, got {text!r}")
    return Span(_days(named, text) if named else frozenset(range(7)), start, end)


def _days(named: str, text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in named.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (last if dash else first) not in DAYS:
            raise ValueError(f"expected days of {', '.join(DAYS)}, got {text!r}")
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 if dash else 0
        days |= {(start + i) % 7 for i in range(length + 1)}
    return frozenset(days)
