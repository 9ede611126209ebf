"""Ending an answer at a text of the caller's choice, which may come in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Finds the first of several texts in a stream. What may be part of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Take the next text; return what is certain to come before any of the stops."""
        if not self._stops:
            return text
        if self.found:
            return ""
        self._held += text
        certain = self.cut(self._held)
        self.found = certain != self._held
        if not self.found:
            certain = certain[: len(certain) - self._begun(certain)]
        self._held = self._held[len(certain) :]
        return certain

    def finish(self) -> str:
        """End of text: what was held back and turned out not to be a stop."""
        return "" if self.found else self._held

    def cut(self, text: str) -> str:
        """A text up to the stop that is complete first: the same however the text comes."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return text[: min(found)[1]] if found else text

    def _begun(self, text: str) -> int:
        """Length of the longest end of the text that a stop begins with."""
        longest = max(map(len, self._stops)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
