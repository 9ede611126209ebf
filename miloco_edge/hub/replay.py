"""Rules run over a recording, before they are armed: same windows, gate and rules, no waiting.

Nothing is journalled and no sink hears of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from miloco_edge.engine.protocol import WindowEngine
from miloco_edge.hub import zoom
from miloco_edge.hub.event import Event
from miloco_edge.hub.settings import Home
from miloco_edge.hub.telling import Made, events_of, unseen
from miloco_edge.hub.watch import Watch, watches
from miloco_edge.types import Budget
from miloco_edge.video import Frame, unusable
from miloco_edge.video.decode import read_frames, timeline
from miloco_edge.video.mask import cover


def replay(
    home: Home,
    engine: WindowEngine,
    recording: Path,
    camera: str,
    *,
    start: float | None = None,
) -> Iterator[Event]:
    """The events that `camera` would have told, had it shown the recording from `start` on.

    `start` is in seconds since 1970, and decides what schedules cover; now by default. Deadlines
    do not bind: there is time. Raises MediaError for what cannot be decoded, and what the engine
    raises.
    """
    epoch_s = time.time() if start is None else start
    viewed = [watch for watch in watches(home) if watch.camera == camera]
    settings = home.cameras[camera]
    line = timeline(recording)
    times = np.asarray(line.times) - line.times[0]
    wanted = np.arange(0.0, times[-1] + 0.5 / settings.fps, 1 / settings.fps)
    indices = np.unique(np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)).tolist()
    held: deque[Frame] = deque()
    due_s = min(settings.seconds, float(times[-1]))  # a short one is a window too
    for time_s, pixels in read_frames(recording, line, indices):
        now = time_s - float(line.times[0])
        held.append(Frame(cover(pixels, settings.masks), now))
        while now - held[0].time_s > settings.seconds + 1 / settings.fps:
            held.popleft()
        if now + 0.5 / settings.fps < due_s:
            continue
        due_s += settings.interval_s
        for watch in viewed:
            yield from _turn(home, engine, watch, tuple(held), now, epoch_s)


def _turn(
    home: Home,
    engine: WindowEngine,
    watch: Watch,
    frames: tuple[Frame, ...],
    now: float,
    epoch_s: float,
) -> Iterator[Event]:
    local = datetime.fromtimestamp(epoch_s + now, home.time_zone)
    told = watch.passed(local, now)
    rules, _ = watch.on_duty(local)
    window = watch.cut(frames) if rules else None
    degraded = None
    if window is not None:
        made: Made = []
        reason = unusable([frame.pixels for frame in window.frames])
        if reason is not None:
            made = unseen(rules, reason)
        elif watch.passes(home.gate, window, now):
            cost = watch.cost(home.engine.visual_tokens)
            budget = Budget(visual_tokens=cost.visual_tokens)
            box = watch.look(window, rules).box
            seen = zoom.decide(engine, window.clip(), rules, budget, box).result()
            made = list(zip(rules, seen.decisions, strict=True))
            degraded = seen.degraded
            watch.was_examined(home.gate, window)
        told = told + watch.decided(made, window.end_s)
    yield from events_of(
        told,
        watch.camera,
        window,
        epoch_s=epoch_s,
        now=now,
        model=engine.name,
        degraded=degraded,
    )
