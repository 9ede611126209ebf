"""What the hub tells the world: an event, as every sink and the journal have it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from miloco_edge.hub.rules import Change, Rule, State
from miloco_edge.types import Degraded


@dataclass(frozen=True)
class Evidence:
    """The window on which an event rests. Times are seconds since 1970."""

    start: float
    end: float
    frames: int
    frame: str | None = None
    """Path or URL of a picture of it, where such are kept."""


@dataclass(frozen=True)
class Event:
    """A rule became true, stopped being true, happened, or could not be seen.

    Times are seconds since 1970; `document` gives them as RFC 3339.
    """

    id: str
    """The same for the same change, so that no sink needs to take it twice."""
    time: float
    camera: str
    rule: Rule
    state: State
    since: float
    p_yes: float | None = None
    reason: str | None = None
    evidence: Evidence | None = None
    """None where no window is behind it: a schedule that ended, a camera that is gone."""
    latency_s: float | None = None
    """From the capture of the window's last frame to the event."""
    model: str | None = None
    degraded: Degraded | None = None

    @classmethod
    def of(
        cls,
        change: Change,
        rule: Rule,
        camera: str,
        *,
        epoch_s: float,
        evidence: Evidence | None = None,
        latency_s: float | None = None,
        model: str | None = None,
        degraded: Degraded | None = None,
    ) -> Event:
        """The event of a change; `epoch_s` is when the steady clock stood at 0, since 1970."""
        time, since = change.time_s + epoch_s, change.since_s + epoch_s
        key = f"{camera}\n{rule.id}\n{change.state}\n{change.reason}\n{time:.3f}"
        return cls(
            hashlib.sha256(key.encode()).hexdigest()[:16],
            time,
            camera,
            rule,
            change.state,
            since,
            change.p_yes,
            change.reason,
            evidence,
            latency_s,
            model,
            degraded,
        )

    def document(self, zone: tzinfo | None = None) -> dict[str, Any]:
        """The event as JSON has it, with times of day in `zone` (None: the machine's own)."""
        seen, degraded = self.evidence, self.degraded
        return {
            "id": self.id,
            "time": rfc3339(self.time, zone),
            "camera": self.camera,
            "rule": {"id": self.rule.id, "text": self.rule.text, "kind": self.rule.kind},
            "state": self.state,
            "p_yes": self.p_yes,
            "reason": self.reason,
            "since": rfc3339(self.since, zone),
            "window": None
            if seen is None
            else {
                "start": rfc3339(seen.start, zone),
                "end": rfc3339(seen.end, zone),
                "frames": seen.frames,
            },
            "evidence": {"frame": None if seen is None else seen.frame},
            "latency_s": self.latency_s,
            "model": self.model,
            "degraded": None
            if degraded is None
            else {"reason": degraded.reason, "asked": degraded.asked, "used": degraded.used},
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Event:
        """The event that `document` made, as far as it says: of the rule id, text and kind."""
        rule, seen, degraded = (document[name] for name in ("rule", "window", "degraded"))
        evidence = None
        if seen is not None:
            start, end = epoch(seen["start"]), epoch(seen["end"])
            evidence = Evidence(start, end, seen["frames"], document["evidence"]["frame"])
        return cls(
            id=document["id"],
            time=epoch(document["time"]),
            camera=document["camera"],
            rule=Rule(rule["id"], rule["text"], kind=rule["kind"]),
            state=document["state"],
            since=epoch(document["since"]),
            p_yes=document["p_yes"],
            reason=document["reason"],
            evidence=evidence,
            latency_s=document["latency_s"],
            model=document["model"],
            degraded=None if degraded is None else Degraded(**degraded),
        )


def epoch(moment: str) -> float:
    """Seconds since 1970 of a time of day with its offset."""
    return datetime.fromisoformat(moment).timestamp()


def rfc3339(time: float, zone: tzinfo | None = None) -> str:
    """Seconds since 1970 as a time of day with its offset, to the millisecond."""
    return datetime.fromtimestamp(time, UTC).astimezone(zone).isoformat(timespec="milliseconds")
