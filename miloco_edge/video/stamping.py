"""When a frame was taken, from when it came and what its stream says. Pure but for its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST_LAG_S = 3.0
"""A frame that comes so long after it was taken is of no use for a decision."""
PATIENCE_S = 10.0
"""After so long of nothing but late frames it is the stream's clock that is wrong."""
_DRIFT = 1e-3
"""Clocks of cameras are off by less: seconds a second."""
_JUMP_S = 10.0
"""A stream whose time jumps by so much began anew."""


@dataclass(frozen=True)
class Stamping:
    """How a stream's own time maps to the steady clock, as far as is known."""

    offset_s: float | None = None
    """The least time seen between a frame's stream time and its arrival."""
    arrival_s: float = 0.0
    stream_s: float = 0.0
    late_since_s: float | None = None
    resets: int = 0

    def stamp(self, arrival_s: float, stream_s: float | None) -> tuple[Stamping, float]:
        """The moment of capture on the steady clock of a frame that came at `arrival_s`.

        The frame that travelled fastest tells the difference of the two clocks; all others were
        taken as long before or after it as the stream says, however unevenly they came. A stream
        without time, or one whose time runs slow (a guessed frame rate), is stamped on arrival.
        """
        if stream_s is None or self.resets > 1:
            return self, arrival_s
        offset_s = arrival_s - stream_s
        if self.offset_s is None or abs(stream_s - self.stream_s) > _JUMP_S + (
            arrival_s - self.arrival_s
        ):
            return Stamping(offset_s, arrival_s, stream_s, None, self.resets), arrival_s
        least = min(offset_s, self.offset_s + _DRIFT * (arrival_s - self.arrival_s))
        captured_s = stream_s + least
        late_since_s = None
        if arrival_s - captured_s > MOST_LAG_S:
            late_since_s = arrival_s if self.late_since_s is None else self.late_since_s
            if arrival_s - late_since_s > PATIENCE_S:
                return Stamping(offset_s, arrival_s, stream_s, None, self.resets + 1), arrival_s
        return (
            replace(
                self,
                offset_s=least,
                arrival_s=arrival_s,
                stream_s=stream_s,
                late_since_s=late_since_s,
            ),
            captured_s,
        )
