"""When a child process is given up, and how soon the next one is begun."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from miloco_edge.types import Budget


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes that a child has."""

    load_s: float = 900.0
    """Longest load."""
    silent_s: float = 30.0
    """Longest without a sign of life (there is one each second)."""
    overdue_s: float = 60.0
    """How much longer than its own seconds a request may take: one ViT call cannot be stopped."""
    unbounded_s: float = 1800.0
    """How long a request without seconds of its own may take without a sign of progress."""
    resident_bytes: int | None = None
    """More resident memory than this and the child is replaced between windows; by default 1 GiB
    above what it held after its first answer."""
    backoff_s: tuple[float, ...] = (0, 1, 2, 5, 10, 30, 60, 120, 300)
    """Wait before the next child after so many ended in a row without an answer."""

    def wait_s(self, failures: int) -> float:
        """Before the next child, after so many failures in a row."""
        return self.backoff_s[min(failures, len(self.backoff_s)) - 1] if failures else 0.0

    def lost(self, *, ready: bool, began_s: float, silent_s: float) -> str | None:
        """Why a child is given up that began so long ago and said nothing for so long."""
        if silent_s > self.silent_s:
            return f"no sign of life for {silent_s:.0f} s"
        if not ready and began_s > self.load_s:
            return f"no model after {began_s:.0f} s"
        return None

    def overdue(self, budgets: Iterable[Budget], idle_s: float) -> str | None:
        """Why a child is given up that made no progress for so long with requests of these."""
        patience = [
            self.unbounded_s if each.seconds is None else each.seconds + self.overdue_s
            for each in budgets
        ]
        if patience and idle_s > max(patience):
            return f"no progress for {idle_s:.0f} s"
        return None
