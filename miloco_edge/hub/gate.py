"""Whether a window is worth a look. Cheap, and honest about what it leaves out and why.

Pure functions: memory, frames and the time give new memory and a decision. What was last *examined*
is what frames are compared with, so the hub says when that happened; a window that was let through
and then dropped leaves nothing behind.

    memory, decision = gate(settings, memory, frames, time_s)
    if decision.look:
        ...                                               # once the engine has seen the window:
        memory = examined(settings, memory, frames, time_s)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from miloco_edge.hub.difference import (
    FloatPicture,
    Mask,
    bounds,
    brightness,
    colour,
    compare,
    largest,
    likeness,
    thumbnail,
)
from miloco_edge.video import Frame

Reason = Literal[
    "off", "first", "forced", "unsettled", "heartbeat", "motion", "settled",
    "light", "infrared", "moved", "usual", "still",
]  # fmt: skip
"""Why a window is looked at or not.

off: there is no gate. first: nothing was examined yet. forced: something outside asked for it.
unsettled: a rule needs another look. heartbeat: the last look is long ago. motion: something
changed. settled: what moved when last examined now rests. light, infrared, moved: the whole picture
changed, by a lamp or the sun, by the infrared filter, by a camera that was turned. usual: only what
always moves, such as a television, moved. still: nothing did.

light and usual are looked at once in `busy_s`, still never.
"""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares of width and height."""

_GLOBAL = 0.3
"""Share of the picture that changes when the light or the camera does."""
_ALIKE = 0.4
"""Outlines that are so much alike are the same scene."""
_BRIGHTER = 1.3
"""Brightness changes by so much when a lamp is switched; automatic exposure hides the rest."""
_GREY, _COLOURED = 4.0, 8.0
"""Levels between channels of an infrared picture at most, and of a day picture at least."""
_USUAL = 0.6
"""Share of the last minutes in which a place changed to be one that always does."""
_USUAL_S = 120.0
"""How long those minutes are: the time constant of the running mean."""


@dataclass(frozen=True)
class GateSettings:
    """How much is let through."""

    enabled: bool = True
    heartbeat_s: float = 300.0
    """A window is examined after so long, whatever it shows: for states that stay as they are."""
    least_area: float = 0.0012
    """Share of the picture that has to change, in one piece."""
    busy_s: float = 30.0
    """Between two looks at what always moves, and at light that keeps changing."""

    def __post_init__(self) -> None:
        for name in ("heartbeat_s", "busy_s"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"GateSettings.{name}: expected more than 0, got {getattr(self, name)}"
                )
        if not 0 < self.least_area < 1:
            raise ValueError(
                f"GateSettings.least_area: expected from 0 to 1, got {self.least_area}"
            )


@dataclass(frozen=True)
class GateDecision:
    """Whether to look, and why."""

    look: bool
    reason: Reason
    box: Box | None = None
    """Where the motion is or last was, with some room around it, if that is worth a view of its
    own."""


@dataclass(frozen=True, eq=False)
class GateMemory:
    """What is remembered of one camera. Times are seconds of the steady clock."""

    picture: FloatPicture | None = None
    """Thumbnail of the last frame that was examined, (h, w, 3)."""
    examined_s: float | None = None
    moving: bool = False
    """Whether something moved within the examined window."""
    activity: NDArray[np.float32] | None = None
    """How often each place has changed of late, (h, w), from 0 to 1."""
    judged_s: float = -np.inf
    """Frames up to this moment were found to be like the examined one."""
    gated_s: float | None = None
    """When the gate was last asked."""
    light_s: float | None = None
    """When a change of light was last let through."""
    box: Box | None = None
    """Where it last moved: what came and stayed is there still."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Windows for each answer, "look:motion" or "skip:still"."""


def gate(
    settings: GateSettings,
    memory: GateMemory,
    frames: Sequence[Frame],
    time_s: float,
    *,
    force: bool = False,
    unsettled: bool = False,
) -> tuple[GateMemory, GateDecision]:
    """Decide about a window of one camera, in its frames' order (one at least).

    `force` is for what knows better: a doorbell, a motion sensor, a person. `unsettled` is for a
    rule that needs another look at the same picture (`rules.unsettled`).
    """
    if not frames:
        raise ValueError("gate: expected at least one frame, got none")
    memory, decision = _decided(settings, memory, frames, time_s)
    settled = decision.reason not in ("motion", "moved", "infrared", "first", "off")
    box = memory.box if settled else decision.box
    due_s = settings.heartbeat_s + (time_s if memory.examined_s is None else memory.examined_s)
    if force:
        decision = replace(decision, look=True, reason="forced")
    elif not decision.look and unsettled:
        decision = GateDecision(True, "unsettled")
    elif not decision.look and time_s >= due_s:
        decision = GateDecision(True, "heartbeat")
    decision = replace(decision, box=box if decision.look else None)
    key = f"{'look' if decision.look else 'skip'}:{decision.reason}"
    counts = {**memory.counts, key: memory.counts.get(key, 0) + 1}
    return replace(memory, gated_s=time_s, box=box, counts=counts), decision


def examined(
    settings: GateSettings, memory: GateMemory, frames: Sequence[Frame], time_s: float
) -> GateMemory:
    """The memory after a window was examined; `time_s` is its end."""
    if memory.examined_s is not None and time_s < memory.examined_s:
        return memory  # a later window was examined first
    *before, last = [thumbnail(frame.pixels) for frame in frames]
    return replace(
        memory,
        picture=last,
        examined_s=time_s,
        moving=any(
            largest(compare(picture, last).changed) >= settings.least_area for picture in before
        ),
        judged_s=frames[-1].time_s,
    )


def _decided(
    settings: GateSettings,
    memory: GateMemory,
    frames: Sequence[Frame],
    time_s: float,
) -> tuple[GateMemory, GateDecision]:
    if not settings.enabled:
        return memory, GateDecision(True, "off")
    reference = memory.picture
    if reference is None or memory.examined_s is None:
        return memory, GateDecision(True, "first")
    new = [frame for frame in frames if frame.time_s > memory.judged_s]
    pictures = [thumbnail(frame.pixels) for frame in new]
    if any(picture.shape != reference.shape for picture in pictures):
        return memory, GateDecision(True, "moved")
    changes = [compare(reference, picture).changed for picture in pictures]
    busy = np.zeros(reference.shape[:2], np.bool_)
    if any(change.any() for change in changes):
        for earlier, later in pairwise(pictures):
            busy |= compare(earlier, later).changed
    memory = _learned(memory, busy, time_s)
    memory, decision = _judged(settings, memory, reference, pictures, changes, busy, time_s)
    if decision.reason == "still" and new:
        memory = replace(memory, judged_s=new[-1].time_s)
    return memory, decision


def _judged(
    settings: GateSettings,
    memory: GateMemory,
    reference: FloatPicture,
    pictures: Sequence[FloatPicture],
    changes: Sequence[Mask],
    busy: Mask,
    time_s: float,
) -> tuple[GateMemory, GateDecision]:
    whole = next(
        (
            r
            for p, c in zip(pictures, changes, strict=True)
            if (r := _whole(settings, reference, p, c))
        ),
        None,
    )
    if whole == "light":
        if memory.light_s is not None and time_s - memory.light_s < settings.busy_s:
            return memory, GateDecision(False, "light")
        return replace(memory, light_s=time_s), GateDecision(True, "light")
    if whole is not None:
        return memory, GateDecision(True, whole)
    usual = _usual_places(memory, reference)
    fresh = [change & ~usual for change in changes]
    if any(largest(change) >= settings.least_area for change in fresh):
        union = np.logical_or.reduce(fresh)
        box = _room_around(bounds(union, settings.least_area))
        return memory, GateDecision(True, "motion", box)
    changed = any(largest(change) >= settings.least_area for change in changes)
    if memory.moving and pictures and largest(busy) < settings.least_area:
        return memory, GateDecision(True, "settled")
    if changed:
        rested = memory.examined_s is None or time_s - memory.examined_s >= settings.busy_s
        return memory, GateDecision(rested, "usual")
    return memory, GateDecision(False, "still")


def _whole(
    settings: GateSettings, reference: FloatPicture, picture: FloatPicture, changed: Mask
) -> Literal["light", "infrared", "moved"] | None:
    """What happened to the picture as a whole, if anything."""
    tints = sorted((colour(reference), colour(picture)))
    if tints[0] < _GREY and tints[1] > _COLOURED:
        return "infrared"
    if changed.mean() >= _GLOBAL:
        return "light" if likeness(reference, picture, changed) >= _ALIKE else "moved"
    dark, bright = sorted((brightness(reference) + 1, brightness(picture) + 1))
    at_rest = largest(changed) < settings.least_area
    return "light" if bright > _BRIGHTER * dark and at_rest else None


def _learned(memory: GateMemory, busy: Mask, time_s: float) -> GateMemory:
    """Update how often each place changes: from frame to frame, not from the examined one.

    Else what came and stayed, and was not examined for want of time, would become usual.
    """
    activity = memory.activity
    if activity is None or activity.shape != busy.shape:
        activity = np.zeros(busy.shape, np.float32)
    if memory.gated_s is None or not (busy.any() or activity.any()):
        return memory
    weight = 1 - np.exp(-max(0.0, time_s - memory.gated_s) / _USUAL_S)
    return replace(memory, activity=activity + np.float32(weight) * (busy - activity))


def _usual_places(memory: GateMemory, reference: FloatPicture) -> Mask:
    """Where something always moves, and a little around it."""
    shape = reference.shape[:2]
    if memory.activity is None or memory.activity.shape != shape:
        return np.zeros(shape, np.bool_)
    usual = memory.activity > _USUAL
    grown = usual.copy()
    grown[1:] |= usual[:-1]
    grown[:-1] |= usual[1:]
    across = grown.copy()
    grown[:, 1:] |= across[:, :-1]
    grown[:, :-1] |= across[:, 1:]
    return grown


def _room_around(box: Box | None) -> Box | None:
    """The box with a quarter more on each side and a fifth of the picture at least; or None.

    None too where it would be most of the picture: a second view would show the same.
    """
    if box is None:
        return None
    spans = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        length = min(1.0, max(0.2, 1.5 * (high - low)))
        start = min(max(0.0, (low + high - length) / 2), 1.0 - length)
        spans.append((start, start + length))
    (x0, x1), (y0, y1) = spans
    return None if (x1 - x0) * (y1 - y0) > 0.5 else (x0, y0, x1, y1)
