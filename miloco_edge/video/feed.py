"""A camera that is watched all the time: one thread, the newest frames, reconnection."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from miloco_edge.errors import MilocoEdgeError
from miloco_edge.types import RGB
from miloco_edge.video.clip import Frame
from miloco_edge.video.mask import Polygon, cover
from miloco_edge.video.source import Clock, Shot, Source
from miloco_edge.video.stamping import MOST_LAG_S, Stamping

log = logging.getLogger(__name__)

FeedState = Literal["connecting", "live", "lost", "ended", "closed"]

RING_BYTES = 128 << 20
"""Most memory of the frames that a feed holds: 21 of 1080p."""
_EARLY = 0.1
"""A frame that comes this share of an interval too soon is still one of those wanted."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a lost camera is tried again."""

    first_s: float = 1.0
    most_s: float = 60.0
    jitter: float = 0.5
    """Share of the wait that is left to chance, so that cameras do not come back all at once."""
    healthy_s: float = 30.0
    """A connection that lasted so long starts over at `first_s`."""

    def delay_s(self, failures: int, chance: float) -> float:
        """The wait after so many failures in a row (1 at least), for a `chance` from 0 to 1."""
        whole = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return whole * (1 - self.jitter * chance)


@dataclass(frozen=True)
class FeedStatus:
    """What is known of a feed at one moment. Times are seconds of the steady clock."""

    state: FeedState
    error: str | None = None
    """Why it was lost last, masked; None while it is live."""
    hint: str | None = None
    size: tuple[int, int] | None = None
    """(width, height) of the newest frame."""
    newest_s: float | None = None
    """When the newest frame was taken."""
    unchanged_since_s: float | None = None
    """Since when every frame has shown the very same pixels: a camera's sensor never does."""
    frames: int = 0
    connections: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    """Frames that were not taken: `stale` ones, and those `out_of_order`."""


class Feed:
    """The newest frames of a source, each with the moment at which it was taken.

        with Feed(source, seconds=4, fps=4) as feed:
            frames = feed.frames()

    Masks are drawn before anything else sees a frame. One thread reads; a camera that is lost is
    tried again, ever more seldom. At most `seconds * fps` frames and `RING_BYTES` are held, of one
    connection or of several.
    """

    def __init__(
        self,
        source: Source,
        *,
        seconds: float = 4.0,
        fps: float = 4.0,
        masks: Sequence[Polygon] = (),
        backoff: Backoff | None = None,
        on_frame: Callable[[Frame], None] | None = None,
        clock: Clock = time.monotonic,
        chance: Callable[[], float] = random.random,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """`on_frame` is called in the feed's thread. `wait` sleeps, and is True once stopped."""
        self.source = source
        self._seconds, self._fps, self._masks = seconds, fps, tuple(masks)
        self._backoff = backoff or Backoff()
        self._on_frame = on_frame
        self._clock, self._chance = clock, chance
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._next_s = -math.inf
        self._lock = threading.Lock()
        self._frames: deque[Frame] = deque(maxlen=max(2, round(seconds * fps)))
        self._status = FeedStatus("connecting")
        self._refused: Counter[str] = Counter()
        self._thread = threading.Thread(target=self.run, name=f"feed {source.name}", daemon=True)

    def __enter__(self) -> Feed:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to watch, in a thread."""
        self._thread.start()

    def close(self, timeout_s: float = 0.5) -> None:
        """Stop. A thread that waits for a dead camera is left to end at its own timeout."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self._say(state="closed")

    def frames(self) -> tuple[Frame, ...]:
        """The frames held, oldest first; `Frame.time_s` is the moment of capture."""
        with self._lock:
            return tuple(self._frames)

    @property
    def status(self) -> FeedStatus:
        """How it is now."""
        with self._lock:
            return self._status

    def run(self) -> None:
        """Watch until closed, or until the source has nothing more to give (the thread's body)."""
        failures = 0
        while not self._stop.is_set():
            self._say(state="connecting", connections=self.status.connections + 1)
            begun_s = self._clock()
            try:
                self._read()
            except Exception as error:
                if self._stop.is_set():
                    return
                if self._clock() - begun_s >= self._backoff.healthy_s:
                    failures = 0
                failures += 1
                delay_s = self._backoff.delay_s(failures, self._chance())
                self._lost(error, delay_s)
                if self._wait(delay_s):
                    return
            else:
                self._say(state="ended")
                return

    def _lost(self, error: Exception, delay_s: float) -> None:
        known = isinstance(error, MilocoEdgeError)
        what = str(error) if known else f"{self.source.name}: {type(error).__name__}"
        log.warning("%s; trying again in %.1f s", what, delay_s, exc_info=not known)
        self._say(state="lost", error=what, hint=getattr(error, "hint", None))

    def _read(self) -> None:
        stamping = Stamping()
        for shot in self.source.shots(self._stop, fps=self._fps):
            if self._stop.is_set():
                return
            stamping, captured_s = stamping.stamp(shot.arrival_s, shot.stream_s)
            self._take(shot, captured_s)

    def _take(self, shot: Shot, captured_s: float) -> None:
        newest_s = self.status.newest_s
        if self._clock() - captured_s > MOST_LAG_S:
            return self._refuse("stale")
        if newest_s is not None and captured_s <= newest_s:
            return self._refuse("out_of_order")
        if captured_s < self._next_s - _EARLY / self._fps:
            return None  # more than are wanted
        first = newest_s is None
        self._next_s = captured_s if first else max(self._next_s, captured_s - 1 / self._fps)
        self._next_s += 1 / self._fps
        frame = Frame(cover(shot.pixels, self._masks), captured_s)
        with self._lock:
            same = self._frames and _same(self._frames[-1].pixels, frame.pixels)
            unchanged_since_s = self._status.unchanged_since_s if same else captured_s
            self._frames.append(frame)
            most = max(2, RING_BYTES // frame.pixels.nbytes)
            while len(self._frames) > most or captured_s - self._frames[0].time_s > self._seconds:
                self._frames.popleft()
        self._say(
            state="live",
            error=None,
            hint=None,
            size=frame.size,
            newest_s=captured_s,
            unchanged_since_s=unchanged_since_s,
            frames=self.status.frames + 1,
        )
        if self._on_frame is not None:
            self._on_frame(frame)
        return None

    def _refuse(self, why: str) -> None:
        self._refused[why] += 1
        self._say(refused=dict(self._refused))

    def _say(self, **changes: object) -> None:
        with self._lock:
            if self._status.state != "closed":
                self._status = FeedStatus(**{**vars(self._status), **changes})


def _same(a: RGB, b: RGB) -> bool:
    """Whether two frames agree in every eighth row, which noise would not let them."""
    return a.shape == b.shape and bool(np.array_equal(a[::8], b[::8]))
