"""When each camera is due: at its interval, staggered, so that they do not all come at once."""

from __future__ import annotations

import heapq


class Timetable:
    """Moments at which names are due. Pure, told the time; used by one thread.

    Names with the same interval are spread over it evenly, in the order in which they were given.
    """

    def __init__(self, intervals_s: dict[str, float], now: float) -> None:
        self._intervals_s = dict(intervals_s)
        self._due: list[tuple[float, str]] = []
        groups: dict[float, list[str]] = {}
        for name, interval_s in intervals_s.items():
            groups.setdefault(interval_s, []).append(name)
        for interval_s, names in groups.items():
            for i, name in enumerate(names):
                heapq.heappush(self._due, (now + interval_s * i / len(names), name))

    def due(self, now: float, stretch: float = 1.0) -> list[str]:
        """Names whose moment has come; each is due again after its interval, times `stretch`.

        What was missed (the machine slept, the hub was busy) is not made up for.
        """
        names = []
        while self._due and self._due[0][0] <= now:
            moment, name = heapq.heappop(self._due)
            interval_s = self._intervals_s[name] * stretch
            again = moment + interval_s
            heapq.heappush(self._due, (again if again > now else now + interval_s, name))
            names.append(name)
        return names

    def next(self) -> float:
        """When the next is due; infinite if there is none."""
        return self._due[0][0] if self._due else float("inf")
