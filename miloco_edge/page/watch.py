"""Rules over a clip or a live camera: p_yes of each, window by window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

from miloco_edge.engine import Scene
from miloco_edge.engine.decide import Decided
from miloco_edge.engine.worker import Request
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.visit import Stop
from miloco_edge.types import Budget, Decision
from miloco_edge.video import Clip

FPS = 2.0
"""Frames of a second of a clip that windows are cut from."""
MOST_RULES = 16
MOST_WINDOWS = 240
"""Columns of the chart: the oldest give way."""


@dataclass(frozen=True)
class Judged:
    """What a window amounted to."""

    start_s: float
    end_s: float
    decisions: tuple[Decision, ...]
    took_s: float


def sentences(text: str) -> tuple[str, ...]:
    """The rules of a text, one a line; each once, the first sixteen."""
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    return tuple(lines)[:MOST_RULES]


def windows(clip: Clip, seconds: float) -> list[Clip]:
    """Windows of a video in order, each half over the one before, at an even frame.

    Overlapping windows share frame pairs, which the engine then encodes once. Pictures are one
    window, all of them.
    """
    if clip.layout == "images":
        return [clip]
    length = max(2, round(seconds * clip.fps / 2) * 2)
    step = max(2, length // 4 * 2)
    starts = range(0, max(1, len(clip.frames) - length + step), step)
    return [replace(clip, frames=clip.frames[start : start + length]) for start in starts]


def live(newest: Callable[[], Clip | None], stop: threading.Event) -> Iterator[Clip]:
    """The newest window of a webcam, again and again, each time that it has moved on."""
    seen: float | None = None
    while not stop.is_set():
        clip = newest()
        if clip is None or clip.times_s[-1] == seen:
            stop.wait(0.1)
            continue
        seen = clip.times_s[-1]
        yield clip


class Watch:
    """One visitor's rules over windows. `stop` from any thread."""

    def __init__(self, scenes: Scenes) -> None:
        self._scenes = scenes
        self._stop = Stop()
        self.stopped = threading.Event()

    def run(
        self, clips: Iterable[Clip], rules: Sequence[str], visual_tokens: int, *, moving: bool
    ) -> Iterator[tuple[Judged, ...]]:
        """Judge window after window; yield what is known so far.

        `moving`: a live camera, whose window is unknown if its pictures are all the same. Each
        window waits for its turn anew, so that other visitors come in between. Raises what looking
        raises.
        """
        course: tuple[Judged, ...] = ()
        try:
            for clip in clips:
                if self.stopped.is_set():
                    return
                course = (*course, self._judge(clip, rules, visual_tokens, moving))[-MOST_WINDOWS:]
                yield course
        except CancelledError:
            return

    def stop(self) -> None:
        """Stop after what can be stopped at once."""
        self.stopped.set()
        self._stop()

    def _judge(self, clip: Clip, rules: Sequence[str], visual_tokens: int, moving: bool) -> Judged:
        began = time.monotonic()
        budget = Budget(visual_tokens=visual_tokens)

        def look() -> Scene:
            return self._stop.hand(self._scenes.engine.start_look(clip, budget=budget)).result()

        with self._scenes.with_room(look) as scene:

            def decide() -> Decided:
                request: Request[Decided] = scene.start_decide(rules, live=moving)
                return self._stop.hand(request).result()

            decisions = self._scenes.with_room(decide).decisions
        times = clip.times_s
        return Judged(times[0], times[-1], decisions, time.monotonic() - began)
