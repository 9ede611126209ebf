"""One view of one camera (all of it, or a zone) and the rules about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from miloco_edge.hub.foresight import Demand, whole_s
from miloco_edge.hub.gate import Box, GateDecision, GateMemory, GateSettings, examined, gate
from miloco_edge.hub.overload import Cost
from miloco_edge.hub.rules import Change, Memory, Rule, step, unsettled
from miloco_edge.hub.scheduler import Job
from miloco_edge.hub.settings import CameraSettings, Home
from miloco_edge.hub.window import Window, cut, pair_end
from miloco_edge.types import Decision, Degraded
from miloco_edge.video import Clip, Frame
from miloco_edge.video.feed import FeedStatus
from miloco_edge.video.mask import view

VISUAL_TOKENS = 1024
"""Of a window, unless the home says otherwise."""
_REMEMBERED = 8
"""Windows that a running mean is of."""
_LATE = 1.5
"""A camera is stale after so many of its timeouts without a frame."""

Told = list[tuple[Rule, Change]]


@dataclass(frozen=True, eq=False)
class Look:
    """A window, and the rules that it is to be looked at for; the most important first."""

    watch: Watch
    window: Window
    rules: tuple[Rule, ...]
    box: Box | None = None
    """Where it moves, if that is worth a view of its own."""

    def job(self) -> Job[Any]:
        """The look as the scheduler takes it."""
        return Job(
            self.watch.camera,
            self.watch.zone or "",
            self.window.end_s,
            self,
            priority=max(rule.priority for rule in self.rules),
            deadline_s=self.watch.deadline_s,
        )

    def clip(self, cost: Cost) -> Clip:
        """What is shown of it at a cost that may be less than it was cut for."""
        frames = self.window.frames
        count = min(cost.frames, len(frames))
        if count == len(frames):
            return self.window.clip()
        chosen = tuple(
            frames[round(i * (len(frames) - 1) / max(1, count - 1))] for i in range(count)
        )
        return replace(self.window, frames=chosen, fps=self.window.fps * count / len(frames)).clip()


class Watch:
    """What is remembered of a view and its rules. Used by the hub's one thread."""

    def __init__(self, settings: CameraSettings, zone: str | None, rules: Iterable[Rule]) -> None:
        self.settings, self.zone = settings, zone
        self.rules = tuple(sorted(rules, key=lambda rule: -rule.priority))
        self.memories = {rule.id: Memory() for rule in self.rules}
        self.gate = GateMemory()
        self.gated: GateDecision | None = None
        self.decisions: dict[str, Decision] = {}
        """The last of each rule."""
        self.latency_s: float | None = None
        self.takes_s: float | None = None
        """What a window of it takes the engine, a running mean; None before the first."""
        self.passing = 1.0
        """Share of its windows that the gate lets through, a running mean."""
        self.degraded: Degraded | None = None
        """What gave way at the last look."""
        self.end_s = float("-inf")
        """Of the newest frame when a window was last cut."""
        self.anchor_s: float | None = None
        """Where a pair of frames ended: windows are cut so that their pairs fall together."""
        self.astray = 0
        """Windows in a row whose pairs do not."""
        self.forced = False
        """Whether the next window is to pass the gate whatever it shows."""

    @property
    def camera(self) -> str:
        """The camera's id."""
        return self.settings.id

    @property
    def deadline_s(self) -> float | None:
        """When the last of its rules has no use for an answer any more."""
        deadlines = [rule.deadline_s for rule in self.rules]
        known = [deadline for deadline in deadlines if deadline is not None]
        return max(known) if known and len(known) == len(deadlines) else None

    def cost(self, visual_tokens: int | None) -> Cost:
        """What its windows are made of where nothing gives way."""
        frames = max(1, round(self.settings.seconds * self.settings.fps))
        return Cost(frames, visual_tokens or VISUAL_TOKENS, self.settings.interval_s)

    def on_duty(self, local: datetime) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        """Rules that their schedules cover now, and the others."""
        duty = [rule.schedule.covers(local) for rule in self.rules]
        return (
            tuple(rule for rule, on in zip(self.rules, duty, strict=True) if on),
            tuple(rule for rule, on in zip(self.rules, duty, strict=True) if not on),
        )

    def blind(self, status: FeedStatus, began_s: float, now: float) -> str | None:
        """Why the camera shows nothing that could be looked at."""
        if status.state == "ended":
            return None
        patience = max(_LATE * self.settings.timeout_s, 2 * self.settings.interval_s)
        if now - (began_s if status.newest_s is None else status.newest_s) > patience:
            return "stale"
        since = status.unchanged_since_s if self.settings.source.live else None
        frozen = since is not None and now - since >= self.settings.frozen_after_s
        return "frozen" if frozen else None

    def cut(self, frames: tuple[Frame, ...]) -> Window | None:
        """The newest window, if it is a new one; of a zone, what lies in it."""
        if not frames or frames[-1].time_s <= self.end_s:
            return None
        settings, newest_s = self.settings, frames[-1].time_s
        if self.anchor_s is None:
            self.anchor_s = newest_s
        end_s = pair_end(newest_s, self.anchor_s, settings.fps)
        # One turn that came early or late is none; at the second, the camera's clock has moved.
        self.astray = self.astray + 1 if end_s == newest_s != self.anchor_s else 0
        if self.astray > 1:
            self.anchor_s = newest_s
        window = cut(
            self.camera,
            frames,
            end_s,
            seconds=settings.seconds,
            fps=settings.fps,
            slack_s=0.5 / settings.fps,
        )
        if window is None:
            return None
        self.end_s = newest_s
        if self.zone is None:
            return window
        polygon = settings.zones[self.zone]
        seen = tuple(Frame(view(f.pixels, polygon), f.time_s) for f in window.frames)
        return replace(window, frames=seen)

    def passes(self, settings: GateSettings, window: Window, now: float) -> bool:
        """Whether the gate lets the window through."""
        force, self.forced = self.forced, False
        self.gate, self.gated = gate(
            replace(settings, enabled=settings.enabled and self.settings.gate),
            self.gate,
            window.frames,
            now,
            force=force,
            unsettled=any(unsettled(rule, self.memories[rule.id]) for rule in self.rules),
        )
        self.passing += (self.gated.look - self.passing) / _REMEMBERED
        return self.gated.look

    def took(self, seconds: float, degraded: Degraded | None) -> None:
        """The engine was at a window for so long; `degraded` is what it gave up meanwhile."""
        asked, used = (degraded.asked, degraded.used) if degraded is not None else ({}, {})
        whole = whole_s(seconds, asked.get("visual_tokens"), used.get("visual_tokens"))
        if self.takes_s is None:
            self.takes_s = whole
        self.takes_s += (whole - self.takes_s) / _REMEMBERED

    def demand(self) -> Demand | None:
        """What it asks of the engine; None before that is known."""
        if self.takes_s is None:
            return None
        return Demand(self.settings.interval_s, self.takes_s, self.passing, self.deadline_s)

    def look(self, window: Window, rules: tuple[Rule, ...]) -> Look:
        """The look at a window that passed."""
        return Look(self, window, rules, None if self.gated is None else self.gated.box)

    def was_examined(self, settings: GateSettings, window: Window) -> None:
        """The engine has seen the window."""
        self.gate = examined(settings, self.gate, window.frames, window.end_s)

    def decided(self, decisions: Iterable[tuple[Rule, Decision]], time_s: float) -> Told:
        """What the decisions about a window that ended at `time_s` change."""
        told: Told = []
        for rule, decision in decisions:
            if rule.id in self.memories:  # it may have gone while the window was looked at
                self.decisions[rule.id] = decision
                told += self._step(rule, decision, time_s)
        return told

    def passed(self, local: datetime, time_s: float) -> Told:
        """What time alone changes."""
        told: Told = []
        on, off = self.on_duty(local)
        for rule in on:
            told += self._step(rule, None, time_s)
        for rule in off:
            told += self._step(rule, None, time_s, on_duty=False)
        return told

    def remember(
        self,
        states: Mapping[tuple[str, str], tuple[str, float, float, bool]],
        epoch_s: float,
        now: float,
    ) -> None:
        """Take over what an earlier run told last, so that it is not told again.

        A clock that is behind after the start must not have its times lie ahead: durations count
        from now on then.
        """
        for rule in self.rules:
            state, told, since, blind = states.get((self.camera, rule.id), ("", 0.0, 0.0, False))
            if state in ("on", "off", "fired"):
                on = state == "on"
                self.memories[rule.id] = Memory(
                    on=on,
                    since_s=min(since - epoch_s, now),
                    told_s=None if state == "off" else min(told - epoch_s, now),
                    blind_s=now if blind else None,
                )

    def inherit(self, older: Watch) -> None:
        """Take over what is remembered of the rules that an older view of the camera had.

        Of one that was edited what was told stays told, so that it is neither told twice nor
        without an end; what was decided was about another rule.
        """
        edited = {rule.id: rule for rule in older.rules}
        same = 0
        for rule in self.rules:
            before = edited.get(rule.id)
            if before == rule:
                same += 1
                self.memories[rule.id] = older.memories[rule.id]
                if rule.id in older.decisions:
                    self.decisions[rule.id] = older.decisions[rule.id]
            elif before is not None and before.kind == rule.kind:
                memory = older.memories[rule.id]
                self.memories[rule.id] = replace(memory, votes=(), p_yes=None)
        alike = self.settings == older.settings and self.zone == older.zone
        if alike and same == len(self.rules):
            self.gate, self.end_s, self.anchor_s = older.gate, older.end_s, older.anchor_s

    def _step(
        self, rule: Rule, decision: Decision | None, time_s: float, *, on_duty: bool = True
    ) -> Told:
        memory, changes = step(rule, self.memories[rule.id], decision, time_s, on_duty=on_duty)
        self.memories[rule.id] = memory
        return [(rule, change) for change in changes]


def watches(home: Home) -> list[Watch]:
    """One for each camera and zone that a rule is about."""
    return [
        Watch(settings, zone, rules)
        for settings in home.cameras.values()
        for zone in (None, *settings.zones)
        if (
            rules := [
                rule
                for rule in home.rules.values()
                if settings.id in rule.cameras and rule.zone == zone
            ]
        )
    ]
