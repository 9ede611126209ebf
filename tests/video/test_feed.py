"""A feed over a source that does what it is told, with a clock that stands still or jumps."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from miloco_edge.errors import MediaError, NotFoundError
from miloco_edge.types import RGB
from miloco_edge.video.feed import Backoff, Feed
from miloco_edge.video.mask import Polygon
from miloco_edge.video.played import Pushed
from miloco_edge.video.source import Shot


def picture(level: int = 0) -> RGB:
    return np.full((16, 24, 3), level, np.uint8)


@dataclass
class Clock:
    """A clock that only the script moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Script:
    """A source whose every connection is a list of shots, pauses (seconds) and errors."""

    clock: Clock
    connections: list[list[Shot | float | Exception]]
    name: str = "script"
    seen: list[float] = field(default_factory=list)

    def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
        self.seen.append(self.clock.now)
        for what in self.connections.pop(0) if self.connections else []:
            if isinstance(what, Exception):
                raise what
            if isinstance(what, float):
                self.clock.now += what
            else:
                yield what


def watched(
    connections: Iterable[list[Shot | float | Exception]], **options: object
) -> tuple[Feed, Script, list[float]]:
    """A feed after its source said all that it has to say, and its waits between connections."""
    clock = Clock()
    script, waits = Script(clock, list(connections)), list[float]()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        clock.now += seconds
        return False

    feed = Feed(script, clock=clock, wait=wait, chance=lambda: 0.0, **options)  # type: ignore[arg-type]
    feed.run()
    return feed, script, waits


def every(gap_s: float, count: int, start_s: float = 100.0) -> list[Shot | float | Exception]:
    """Shots that arrive as they are taken."""
    steps: list[Shot | float | Exception] = []
    for i in range(count):
        steps += [Shot(picture(i % 256), start_s + i * gap_s), gap_s]
    return steps


def test_the_newest_frames_are_held_by_their_capture_time() -> None:
    feed, _, _ = watched([every(0.25, 40)], seconds=4.0, fps=4.0)
    times = [frame.time_s for frame in feed.frames()]
    assert times == pytest.approx([106 + i * 0.25 for i in range(16)])
    assert feed.status.state == "ended"
    assert feed.status.size == (24, 16)
    assert feed.status.frames == 40


def test_more_frames_than_wanted_are_left_out_evenly() -> None:
    feed, _, _ = watched([every(0.04, 200)], seconds=4.0, fps=2.0)
    gaps = [b.time_s - a.time_s for a, b in itertools.pairwise(feed.frames())]
    assert len(gaps) == 7
    assert all(0.4 < gap < 0.6 for gap in gaps)
    assert 16 <= feed.status.frames <= 18


def test_memory_is_bounded_for_large_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miloco_edge.video.feed.RING_BYTES", 5 * picture().nbytes)
    feed, _, _ = watched([every(0.25, 40)], seconds=4.0, fps=4.0)
    assert len(feed.frames()) == 5


def test_stale_and_out_of_order_frames_are_refused() -> None:
    steps: list[Shot | float | Exception] = [
        Shot(picture(1), 100.0),
        5.0,
        Shot(picture(2), 101.0),  # taken four seconds before it came
        Shot(picture(3), 105.0),
        Shot(picture(4), 104.5),
        Shot(picture(5), 105.0),
    ]
    feed, _, _ = watched([steps], seconds=10.0, fps=4.0)
    assert [frame.time_s for frame in feed.frames()] == [100.0, 105.0]
    assert feed.status.refused == {"stale": 1, "out_of_order": 2}


def test_frames_that_come_in_a_burst_keep_the_moments_of_their_stream() -> None:
    steps: list[Shot | float | Exception] = []
    for i in range(4):
        steps += [Shot(picture(i), 100 + i * 0.5, 7 + i * 0.5), 0.5]
    steps += [1.0, *(Shot(picture(9 + i), 103.0, 9 + i * 0.5) for i in range(3))]
    feed, _, _ = watched([steps], seconds=10.0, fps=2.0)
    times = [frame.time_s for frame in feed.frames()]
    assert times == pytest.approx([100 + i * 0.5 for i in range(7)], abs=0.01)


def test_a_lost_camera_is_tried_again_ever_more_seldom() -> None:
    down = NotFoundError("expected a camera, got none", hint="is it on?")
    feed, script, waits = watched([[down], [down], [down], every(0.5, 4, 107.0)])
    assert waits == [1.0, 2.0, 4.0]
    assert script.seen == [100.0, 101.0, 103.0, 107.0]
    assert feed.status.connections == 4
    assert feed.status.error is None


def test_waits_are_bounded_and_start_over_after_a_healthy_while() -> None:
    backoff = Backoff(first_s=1, most_s=5, healthy_s=30)
    down = MediaError("cam", "lost")
    _, _, waits = watched(
        [[down], [down], [down], [down], [*every(0.5, 80), down], [down]], backoff=backoff
    )
    assert waits == [1.0, 2.0, 4.0, 5.0, 1.0, 2.0]
    assert Backoff().delay_s(1000, 0.0) == 60.0


def test_cameras_do_not_come_back_all_at_once() -> None:
    delays = [Backoff().delay_s(4, chance) for chance in (0.0, 0.5, 1.0)]
    assert delays == [8.0, 6.0, 4.0]


def test_what_is_wrong_is_said(caplog: pytest.LogCaptureFixture) -> None:
    states = []

    def wait(seconds: float) -> bool:
        states.append(feed.status)
        return True

    script = Script(Clock(), [[NotFoundError("expected a camera, got none", hint="is it on?")]])
    feed = Feed(script, clock=script.clock, wait=wait)
    feed.run()
    assert (states[0].state, states[0].error) == ("lost", "expected a camera, got none")
    assert states[0].hint == "is it on?"
    assert "trying again" in caplog.text


def test_an_error_of_a_library_does_not_end_the_feed(caplog: pytest.LogCaptureFixture) -> None:
    feed, _, waits = watched([[ValueError("rtsp://a:s3cret@cam")], every(0.5, 2)])
    assert (waits, feed.status.frames) == ([1.0], 2)
    assert feed.status.error is None


def test_masks_are_drawn_before_anything_sees_a_frame() -> None:
    left = Polygon(((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    seen: list[RGB] = []
    feed, _, _ = watched(
        [[Shot(picture(200), 100.0)]],
        masks=[left],
        on_frame=lambda frame: seen.append(frame.pixels),
    )
    for pixels in (seen[0], feed.frames()[0].pixels):
        assert not pixels[:, :12].any()
        assert pixels[:, 14:].all()


def test_a_frozen_picture_is_noticed() -> None:
    same: list[Shot | float | Exception] = []
    for i in range(8):
        same += [Shot(picture(7), 101 + i * 0.5), 0.5]
    feed, _, _ = watched([[*every(0.5, 2), *same]], fps=2.0)
    assert feed.status.unchanged_since_s == 101.0
    assert feed.status.newest_s == 104.5


def test_a_resolution_that_changes_is_followed() -> None:
    large = np.zeros((32, 48, 3), np.uint8)
    feed, _, _ = watched([[Shot(picture(), 100.0), 0.5, Shot(large, 100.5)]])
    assert feed.status.size == (48, 32)
    assert [frame.size for frame in feed.frames()] == [(24, 16), (48, 32)]


def eventually(met: Callable[[], bool], within_s: float = 20.0) -> None:
    end_s = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < end_s, "it did not come"
        time.sleep(0.01)


def test_a_program_pushes_frames_into_a_thread() -> None:
    source = Pushed("host")
    with Feed(source, fps=100.0) as feed:
        now = time.monotonic()
        for i in range(3):
            source.push(picture(i), now + i * 0.01)
        eventually(lambda: len(feed.frames()) == 3)
        assert [frame.pixels[0, 0, 0] for frame in feed.frames()] == [0, 1, 2]
        source.end()
        eventually(lambda: feed.status.state == "ended")
    feed.close()
    assert feed.status.state == "closed"


def test_closing_does_not_wait_for_a_dead_camera() -> None:
    release = threading.Event()

    class Dead:
        name = "dead"

        def shots(self, stop: threading.Event, *, fps: float) -> Iterator[Shot]:
            release.wait(60)
            yield from ()

    feed = Feed(Dead())
    feed.start()
    begun = time.monotonic()
    feed.close(timeout_s=0.05)
    assert time.monotonic() - begun < 10
    assert feed.status.state == "closed"
    release.set()
