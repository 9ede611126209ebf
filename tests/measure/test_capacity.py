from __future__ import annotations

import numpy as np
import pytest

from miloco_edge import Clip, Engine
from miloco_edge.llama import VisionEncoder
from miloco_edge.measure.capacity import (
    MOST_CAMERAS,
    Held,
    judge,
    latencies,
    measure_capacity,
    most_cameras,
    with_rules,
)
from miloco_edge.measure.stages import Sample, Stages, Workload, measure_window


def sample(total_s: float, *, unanswered: bool = False) -> Sample:
    stages = Stages(total_s=total_s)
    return Sample(True, stages, 64, 1, (224, 224), 80, 4, "x", "stop", ("yes",), unanswered)


def test_windows_that_fit_do_not_wait() -> None:
    assert latencies(np.array([1.0]), 1.0, windows=5).tolist() == [1.0] * 5


def test_windows_that_do_not_fit_wait_longer_and_longer() -> None:
    assert latencies(np.array([3.0]), 2.0, windows=4).tolist() == [3.0, 4.0, 5.0, 6.0]


def test_waiting_by_hand() -> None:
    """Uneven windows: the simulated queue is the one that a loop over the clock gives."""
    service = np.array([0.5, 2.5])
    drawn = np.random.default_rng(0).choice(service, 50)
    free, expected = 0.0, []
    for i, takes in enumerate(drawn):
        free = max(free, i * 2.0) + takes
        expected.append(free - i * 2.0)
    assert latencies(service, 2.0, windows=50) == pytest.approx(expected)


def test_the_most_cameras() -> None:
    one_second = np.array([1.0])
    assert most_cameras(one_second, 1, 10.0, 5.0) == Held(1, 10.0, 9, 1.0)
    assert most_cameras(one_second, 1, 10.0, 0.5) == Held(1, 10.0, 0, None)
    assert most_cameras(one_second, 1, 0.5, 5.0).cameras == 0
    assert most_cameras(np.array([1e-6]), 1, 10.0, 5.0).cameras == MOST_CAMERAS


def test_uneven_windows_hold_fewer_cameras() -> None:
    even = most_cameras(np.array([1.0]), 1, 10.0, 2.0).cameras
    uneven = most_cameras(np.array([0.2] * 8 + [4.2] * 2), 1, 10.0, 5.0).cameras
    assert uneven < even


def test_a_promise_is_kept_or_not() -> None:
    held = Held(1, 2.0, 3, 1.0)
    assert judge(held, [sample(1.0)] * 20, 2.0).kept
    assert not judge(held, [sample(3.0)] * 20, 2.0).kept
    assert not judge(held, [sample(1.0, unanswered=True)] * 20, 2.0).kept


def test_rules_are_all_different(clip: Clip) -> None:
    work = with_rules(Workload(lambda: clip, deadline_s=1.0), 16)
    assert len(set(work.rules)) == 16
    assert work.question is None and work.deadline_s is None
    with pytest.raises(ValueError, match="at most 42 rules"):
        with_rules(work, 43)


def test_measured_on_an_engine(engine: Engine, clip: Clip) -> None:
    def fresh() -> Clip:
        return Clip.from_frames([frame.pixels.copy() for frame in clip.frames], fps=2.0)

    told: list[tuple[int, int]] = []
    capacity = measure_capacity(
        engine, Workload(fresh, visual_tokens=128), 1e-6, windows=2, rules=(1, 2),
        intervals_s=(5.0,), progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(1, 2), (2, 2)]
    assert {rules: len(seconds) for rules, seconds in capacity.service_s.items()} == {1: 2, 2: 2}
    # Nobody decides within a microsecond, so nothing is promised, and nothing tried.
    assert [held.cameras for held in capacity.held] == [0, 0]
    assert capacity.trials == ()


def test_no_window_is_known_from_a_measurement_before(
    engine: Engine, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> Clip:
        return Clip.from_frames([frame.pixels.copy() for frame in clip.frames], fps=2.0)

    workload = Workload(fresh, visual_tokens=128)
    for number in range(5):
        measure_window(engine, workload, number)
    encoded = []
    real = VisionEncoder.encode
    monkeypatch.setattr(
        VisionEncoder, "encode", lambda *given: encoded.append(given) or real(*given)
    )
    measure_capacity(engine, workload, 1e-6, windows=2, rules=(1, 2), intervals_s=(5.0,))
    assert len(encoded) == 5 * 2  # pairs
