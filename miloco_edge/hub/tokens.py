"""Tokens of the last hour: what a home's questions and rules cost."""

from __future__ import annotations

from collections import deque

_BUCKET_S = 60.0
_HOUR_S = 3600.0


class HourlyTokens:
    """Counts by the minute. Pure, told the time."""

    def __init__(self) -> None:
        self.total = 0
        self._minutes: deque[tuple[float, int]] = deque()

    def add(self, now: float, tokens: int) -> None:
        """So many tokens went through the model."""
        self.total += tokens
        minute = now // _BUCKET_S * _BUCKET_S
        if self._minutes and self._minutes[-1][0] == minute:
            tokens += self._minutes.pop()[1]
        self._minutes.append((minute, tokens))
        self.last_hour(now)

    def last_hour(self, now: float) -> int:
        """Tokens of the last 60 minutes."""
        while self._minutes and now - self._minutes[0][0] >= _HOUR_S:
            self._minutes.popleft()
        return sum(tokens for _, tokens in self._minutes)
