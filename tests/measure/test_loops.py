from __future__ import annotations

from miloco_edge.measure.loops import at_rate, closed_loop


class Clock:
    """Time that passes only where it is spent."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds


def test_windows_one_after_another() -> None:
    told: list[tuple[int, int]] = []
    served = closed_loop(lambda n: n * n, 3, lambda done, total: told.append((done, total)))
    assert served == [0, 1, 4]
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_quick_machine_waits_for_the_camera() -> None:
    clock = Clock()

    def serve(number: int, captured: float) -> float:
        assert clock.now() == captured
        clock.time += 0.5
        return clock.now() - captured

    latencies = at_rate(serve, 4, 2.0, now=clock.now, sleep=clock.sleep)
    assert latencies == [0.5] * 4
    assert clock.now() == 106.5


def test_a_slow_machine_cannot_hide_its_queue() -> None:
    clock = Clock()

    def serve(number: int, captured: float) -> float:
        clock.time += 3.0
        return clock.now() - captured

    assert at_rate(serve, 4, 2.0, now=clock.now, sleep=clock.sleep) == [3.0, 4.0, 5.0, 6.0]
