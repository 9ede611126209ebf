"""The gate on drawn scenes: what happens passes, what is only noise does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from miloco_edge.hub.gate import GateDecision, GateMemory, GateSettings, examined, gate
from miloco_edge.types import RGB
from miloco_edge.video import Frame
from models.demo.scenes import plan
from models.demo.scenes.render import source_frames

SETTINGS = GateSettings()
FPS = 2.0
rng = np.random.default_rng(7)


def frames(pictures: Iterable[RGB], start_s: float) -> list[Frame]:
    return [Frame(picture, start_s + i / FPS) for i, picture in enumerate(pictures)]


class Camera:
    """A gate that is shown window after window, two seconds apart; what passes is examined."""

    def __init__(self, settings: GateSettings = SETTINGS) -> None:
        self.settings = settings
        self.memory = GateMemory()
        self.now = 0.0

    def see(self, *pictures: RGB, examine: bool = True, **flags: bool) -> GateDecision:
        shown = frames(pictures, self.now)
        end_s = shown[-1].time_s
        self.memory, decision = gate(self.settings, self.memory, shown, end_s, **flags)
        if decision.look and examine:
            self.memory = examined(self.settings, self.memory, shown, end_s)
        self.now += max(2.0, len(pictures) / FPS)
        return decision


def room(seed: int = 3) -> RGB:
    """A picture of shapes, (180, 320, 3)."""
    made = np.random.default_rng(seed)
    picture = np.full((180, 320, 3), (140, 150, 160), np.uint8)
    for _ in range(30):
        x, y = made.integers(0, 280), made.integers(0, 150)
        w, h = made.integers(10, 60), made.integers(10, 40)
        picture[y : y + h, x : x + w] = made.integers(30, 230, 3)
    return picture


def lit(picture: RGB, gain: float) -> RGB:
    return np.clip(picture * gain, 0, 255).astype(np.uint8)


def noisy(picture: RGB, levels: int = 12) -> RGB:
    grain = rng.integers(-levels, levels + 1, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def shaken(picture: RGB, by: tuple[int, int]) -> RGB:
    return np.roll(picture, by, (0, 1))


def with_visitor(picture: RGB, x: int = 100, size: tuple[int, int] = (60, 24)) -> RGB:
    seen = picture.copy()
    seen[60 : 60 + size[0], x : x + size[1]] = (30, 60, 200)
    return seen


# Clips in which something begins or ends, three of every category; and of empty rooms without TV.
EVENTFUL = [1, 4, 6, 7, 8, 13, 15, 23, 25, 29, 31, 32, 34, 36, 41, 44, 45, 48, 59, 60, 65, 68, 74,
            92, 103, 105, 126, 136, 161, 232]  # fmt: skip
EMPTY = [2, 27, 118, 374, 398, 594, 634, 732, 793, 841]


@pytest.mark.parametrize("seed", EVENTFUL)
def test_no_drawn_event_is_lost(seed: int) -> None:
    planned = plan(seed)
    pictures = source_frames(planned)
    times = [i / planned.source_fps for i in range(planned.count)]
    edges = {e.start_s for e in planned.events} | {e.end_s for e in planned.events}
    for edge in sorted(edges):
        shown = [Frame(p, t) for p, t in zip(pictures, times, strict=True)]
        before = [frame for frame in shown if frame.time_s < edge - 1e-9]
        after = [frame for frame in shown if frame.time_s >= edge - 1e-9]
        if not before or not after:
            continue
        memory = examined(SETTINGS, GateMemory(), before, before[-1].time_s)
        _, decision = gate(SETTINGS, memory, after, after[-1].time_s)
        assert decision.look, (seed, edge, decision)


def test_empty_rooms_are_gated_through_noise_shake_and_compression() -> None:
    looked, windows = [], 0
    for seed in EMPTY:
        planned = plan(seed)
        assert not planned.actors
        pictures = source_frames(replace(planned, count=40))
        camera = Camera()
        decisions = [camera.see(*pictures[i : i + 4]) for i in range(0, 40, 4)]
        assert decisions[0].reason == "first"
        looked += [(seed, d.reason) for d in decisions[1:] if d.look]
        windows += len(decisions) - 1
    assert len(looked) <= 0.04 * windows, looked


def test_what_comes_stays_and_goes_is_looked_at_once_each() -> None:
    camera, empty = Camera(), room()
    visited = with_visitor(empty)
    shown = [empty, empty, visited, visited, visited, empty, empty]
    reasons = [camera.see(noisy(p), noisy(p)).reason for p in shown]
    assert reasons == ["first", "still", "motion", "still", "still", "motion", "still"]
    assert camera.memory.counts == {"look:first": 1, "look:motion": 2, "skip:still": 4}


def test_what_passes_within_a_window_is_motion_and_then_settles() -> None:
    camera, empty = Camera(), room()
    assert camera.see(empty, empty).look
    assert camera.see(empty, with_visitor(empty), empty).reason == "motion"
    assert camera.see(empty, empty).reason == "settled"
    assert camera.see(empty, empty).reason == "still"


def test_a_window_that_was_let_through_and_dropped_leaves_nothing_behind() -> None:
    camera, empty = Camera(), room()
    camera.see(empty)
    for _ in range(3):
        assert camera.see(with_visitor(empty), examine=False).reason == "motion"


def test_a_late_examination_does_not_undo_a_newer_one() -> None:
    empty = room()
    newer = examined(SETTINGS, GateMemory(), frames([empty], 10), 10.0)
    assert examined(SETTINGS, newer, frames([with_visitor(empty)], 8), 8.0) is newer


def test_slow_change_adds_up() -> None:
    """Each step is too small; what was examined does not follow them."""
    camera, empty = Camera(), room()
    visited = with_visitor(empty).astype(float)
    reasons = [
        camera.see((empty + (visited - empty) * share).astype(np.uint8)).reason
        for share in np.linspace(0, 1, 40)
    ]
    assert "motion" in reasons[1:]
    assert reasons[1] == "still"


def test_the_heartbeat() -> None:
    camera, empty = Camera(GateSettings(heartbeat_s=10)), room()
    reasons = [camera.see(empty, empty).reason for _ in range(12)]
    assert reasons == [
        "first",
        *(["still"] * 4),
        "heartbeat",
        *(["still"] * 4),
        "heartbeat",
        "still",
    ]


def test_force_and_unsettled_open_the_gate() -> None:
    camera, empty = Camera(), room()
    assert camera.see(empty, force=True).reason == "forced"
    assert camera.see(empty).reason == "still"
    assert camera.see(empty, force=True) == GateDecision(True, "forced")
    assert camera.see(empty, unsettled=True) == GateDecision(True, "unsettled")
    assert camera.see(with_visitor(empty), unsettled=True).reason == "motion"
    assert camera.see(with_visitor(empty), force=True).reason == "forced"


def test_no_gate_lets_everything_through() -> None:
    camera = Camera(GateSettings(enabled=False))
    assert [camera.see(room()).reason for _ in range(3)] == ["off"] * 3


def test_a_lamp_is_recognised_and_looked_at_once() -> None:
    camera, day = Camera(), room()
    camera.see(day, day)
    assert camera.see(lit(day, 0.5)).reason == "light"
    assert camera.see(lit(day, 0.5)).reason == "still"


def test_light_that_keeps_changing_is_looked_at_now_and_then() -> None:
    camera, day = Camera(GateSettings(busy_s=10)), room()
    camera.see(day)
    decisions = [camera.see(lit(day, gain)) for gain in (0.5, 1.0) * 6]
    assert {d.reason for d in decisions} == {"light", "still"}
    assert 2 <= sum(d.look for d in decisions) <= 3


def test_exposure_that_follows_the_light_is_no_change() -> None:
    camera, day = Camera(), room()
    camera.see(day)
    assert camera.see(lit(day, 0.9), lit(day, 1.1)).reason == "still"


def test_a_visitor_under_another_light_is_seen() -> None:
    camera, day = Camera(), room()
    camera.see(day)
    assert camera.see(lit(with_visitor(day), 0.9)).reason == "motion"


def test_the_infrared_filter_is_recognised() -> None:
    camera, day = Camera(), room()
    night = np.repeat(day.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    camera.see(day)
    assert camera.see(lit(night, 0.8)).reason == "infrared"
    assert camera.see(lit(night, 0.8)).reason == "still"
    assert camera.see(day).reason == "infrared"


def test_a_turned_or_covered_camera_is_recognised() -> None:
    camera = Camera()
    camera.see(room(3))
    assert camera.see(room(4)).reason == "moved"
    assert camera.see(room(4)).reason == "still"
    covered = np.full_like(room(4), 20)
    assert camera.see(covered).look
    assert camera.see(covered).reason == "still"


def test_a_camera_that_changes_its_resolution_is_looked_at() -> None:
    camera = Camera()
    camera.see(room())
    assert camera.see(room()[:120]).look
    assert camera.see(room()[:120]).reason == "still"


@pytest.mark.parametrize("by", [(1, 0), (3, -4), (-5, 6), (6, 6)])
def test_a_shaking_camera_is_still(by: tuple[int, int]) -> None:
    camera, day = Camera(), room()
    camera.see(noisy(day))
    assert camera.see(noisy(shaken(day, by))).reason == "still"
    assert camera.see(noisy(shaken(with_visitor(day), by))).reason == "motion"


def test_what_always_moves_becomes_usual_and_hides_nothing_else() -> None:
    camera, base = Camera(), room()[:80, 60:180]

    def tv() -> list[RGB]:
        shown = []
        for _ in range(3):
            picture = base.copy()
            picture[10:30, 80:110] = rng.integers(0, 255, (2, 3, 3)).repeat(10, 0).repeat(10, 1)
            shown.append(picture)
        return shown

    def visited(picture: RGB) -> RGB:
        seen = picture.copy()
        seen[40:70, 30:45] = (30, 60, 200)
        return seen

    decisions = [camera.see(*tv()) for _ in range(120)]
    assert all(d.look for d in decisions[:40])
    late = decisions[-60:]
    assert {d.reason for d in late} == {"usual"}
    assert 2 <= sum(d.look for d in late) <= 5, "now and then, for it is not nothing"
    assert camera.see(*map(visited, tv())).reason == "motion"
    assert camera.see(*tv()).reason == "motion"
    quiet = [camera.see(base, base, base, base).reason for _ in range(4)]
    assert "settled" in quiet, "that it stopped is seen"
    assert quiet[-1] == "still"


def test_what_stays_unexamined_does_not_become_usual() -> None:
    camera, empty = Camera(), room()[40:140, 60:180]
    camera.see(empty)
    for _ in range(150):
        decision = camera.see(*([with_visitor(empty, 20)] * 2), examine=False)
    assert decision.reason == "motion"


def test_the_zoom_is_around_the_motion() -> None:
    camera, empty = Camera(), room()
    camera.see(empty)
    decision = camera.see(with_visitor(empty, x=200))
    assert decision.box is not None
    x0, y0, x1, y1 = decision.box
    assert 0 <= x0 < 200 / 320 < 224 / 320 < x1 <= 1
    assert 0 <= y0 < 60 / 180 < 120 / 180 < y1 <= 1
    assert (x1 - x0) * (y1 - y0) <= 0.5
    assert camera.see(with_visitor(empty, x=200)).box is None, "it is not looked at"
    again = camera.see(with_visitor(empty, x=200), unsettled=True)
    assert (again.reason, again.box) == ("unsettled", decision.box), "who came is still there"
    large = with_visitor(empty, x=100, size=(110, 100))
    assert camera.see(large).box is None, "most of the picture needs no second view"


@pytest.mark.parametrize(
    "options", [{"heartbeat_s": 0}, {"busy_s": -1}, {"least_area": 0}, {"least_area": 1}]
)
def test_settings_without_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"GateSettings\.\w+: expected"):
        GateSettings(**options)  # type: ignore[arg-type]


def test_a_window_without_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        gate(SETTINGS, GateMemory(), [], 0.0)
