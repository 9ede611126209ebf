from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict

import pytest

from miloco_edge.errors import BusyError
from miloco_edge.hub.overload import LEVELS, Cost, Level, Overload
from miloco_edge.hub.scheduler import MAX_QUESTIONS, OVERTAKEN, Job, Question, Scheduler
from miloco_edge.hub.timetable import Timetable


def job(
    camera: str, now: float, *, rules: str = "", priority: int = 0, deadline: float | None = None
) -> Job[str]:
    return Job(camera, rules, now, "", priority, deadline)


def started(scheduler: Scheduler[str], now: float) -> Job[str]:
    found = scheduler.next(now)
    assert isinstance(found, Job)
    return found


def test_the_newest_window_wins_and_keeps_its_place() -> None:
    scheduler = Scheduler[str]()
    old, other, new = job("a", 0), job("b", 1), job("a", 2)
    assert scheduler.submit(old, 0) is None
    scheduler.submit(other, 1)
    assert scheduler.submit(new, 2) is old
    assert scheduler.waiting == 2 and scheduler.counts.superseded == 1
    assert started(scheduler, 2) is new, "its turn came at 0, whatever replaced what"
    assert scheduler.next(2) is None, "one at a time"
    scheduler.finished(new, 3)
    assert started(scheduler, 3) is other


def test_one_window_of_a_camera_and_rule_set_is_under_way() -> None:
    scheduler = Scheduler[str](slots=2)
    first = job("a", 0)
    scheduler.submit(first, 0)
    assert started(scheduler, 0) is first
    second = job("a", 1)
    scheduler.submit(second, 1)
    assert scheduler.next(1) is None
    other_rules = job("a", 1, rules="porch")
    scheduler.submit(other_rules, 1)
    assert started(scheduler, 1) is other_rules
    scheduler.finished(first, 2)
    assert started(scheduler, 2) is second


def test_priority_and_deadline_decide_the_order() -> None:
    scheduler = Scheduler[str]()
    for each in (
        job("plain", 0),
        job("soon", 0, deadline=5),
        job("later", 0, deadline=20),
        job("dear", 0, priority=20),
    ):
        scheduler.submit(each, 0)
    order = []
    for now in range(4):
        each = started(scheduler, now)
        order.append(each.camera)
        scheduler.finished(each, now)
    assert order == ["dear", "soon", "later", "plain"]


def test_low_priority_waits_longer_but_not_for_ever() -> None:
    scheduler = Scheduler[str]()
    scheduler.submit(job("humble", 0), 0)
    for now in range(200):
        scheduler.submit(job("grand", now, priority=10), now)
        each = started(scheduler, now)
        scheduler.finished(each, now + 1)
        if each.camera == "humble":
            assert now > 5
            return
    pytest.fail("it starved")


def test_a_low_rule_set_of_the_same_camera_is_not_starved() -> None:
    scheduler = Scheduler[str]()
    scheduler.submit(job("a", 0, rules="humble"), 0)
    scheduler.submit(job("b", 0), 0)
    for now in range(300):
        scheduler.submit(job("a", now, rules="grand", priority=10), now)
        each = started(scheduler, now)
        scheduler.finished(each, now + 1)
        if each.rule_set == "humble":
            return
    pytest.fail("it starved")


def test_a_camera_with_many_rule_sets_gets_no_more_than_its_share() -> None:
    scheduler = Scheduler[str]()
    served: Counter[str] = Counter()
    for now in range(400):
        for rules in "abcdefgh":
            scheduler.submit(job("busy", now, rules=rules), now)
        for camera in ("one", "two", "three"):
            scheduler.submit(job(camera, now), now)
        each = started(scheduler, now)
        served[each.camera] += 1
        scheduler.finished(each, now + 1)
    assert served["busy"] == pytest.approx(100, abs=15), served


def test_a_window_that_nobody_got_to_in_time_expires() -> None:
    scheduler = Scheduler[str]()
    running, late, timeless = job("a", 0), job("b", 1, deadline=5), job("c", 1)
    scheduler.submit(running, 0)
    started(scheduler, 0)
    scheduler.submit(late, 1)
    scheduler.submit(timeless, 1)
    assert scheduler.expired(5.9) == [] and scheduler.expired(6) == [late]
    assert scheduler.waiting == 1


def test_a_question_overtakes_and_cannot_stop_the_windows() -> None:
    scheduler = Scheduler[str]()
    window = job("a", 0)
    scheduler.submit(window, 0)
    started(scheduler, 0)
    questions = [Question(str(i)) for i in range(OVERTAKEN + 1)]
    for question in questions:
        scheduler.ask(question)
    for question in questions[:OVERTAKEN]:
        assert scheduler.next(1) is question, "while the window is under way"
        assert scheduler.next(1) is None, "one question at a time"
        scheduler.finished(question, 2)
    assert scheduler.next(2) is None, "the window has been overtaken often enough"
    scheduler.finished(window, 3)
    assert scheduler.next(3) is questions[-1]


def test_a_burst_of_questions_is_bounded_and_said_so() -> None:
    scheduler = Scheduler[str]()
    questions = [Question(str(i)) for i in range(200)]
    refused = 0
    for question in questions:
        try:
            scheduler.ask(question)
        except BusyError as error:
            assert error.retry_after_s > 0
            refused += 1
    assert refused == 200 - MAX_QUESTIONS == scheduler.counts.refused
    assert scheduler.cancel(questions[1]) and not scheduler.cancel(questions[1])
    assert scheduler.next(0) is questions[0]
    assert not scheduler.cancel(questions[0]), "it is under way"
    scheduler.finished(questions[0], 1)
    assert scheduler.next(1) is questions[2]


def test_idle_time_is_counted_from_the_last_work() -> None:
    scheduler = Scheduler[str]()
    assert scheduler.idle_s(5) == 0 and scheduler.idle_s(8) == 3
    window = job("a", 10)
    scheduler.submit(window, 10)
    assert scheduler.idle_s(10) == 0
    started(scheduler, 10)
    assert scheduler.idle_s(20) == 0
    scheduler.finished(window, 30)
    assert scheduler.idle_s(42) == 12


def test_cameras_are_staggered_and_missed_moments_are_not_made_up() -> None:
    table = Timetable({"a": 4, "b": 4, "c": 4, "d": 4, "slow": 60}, 100)
    moments = {now: table.due(now) for now in range(100, 108)}
    assert moments[100] == ["a", "slow"]
    assert [moments[now] for now in range(101, 105)] == [["b"], ["c"], ["d"], ["a"]]
    assert sorted(table.due(1000)) == ["a", "b", "c", "d", "slow"], "each once"
    assert table.due(1001) == [] and table.next() == 1004
    assert set(table.due(1004, stretch=2)) >= {"a"} and table.next() == 1012


def test_overload_gives_way_in_order_and_comes_back() -> None:
    cost = Cost(frames=8, visual_tokens=800, interval_s=2)
    overload, now = Overload(0, period_s=10), 0.0
    assert overload.degraded(cost) is None
    seen = []

    def run(window_s: float, periods: int, every_s: float = 1.0) -> None:
        nonlocal now
        for _ in range(periods * 10):
            level = overload.level
            now += 1
            if now % (every_s * level.interval) == 0:
                overload.offered()
                overload.served(window_s * level.frames * level.size)
            if overload.update(now):
                seen.append(cost.at(overload.level))

    run(window_s=6, periods=12)
    assert [(c.frames, c.visual_tokens, c.interval_s) for c in seen] == [
        (4, 400, 2),
        (4, 200, 2),
        (4, 100, 2),
    ]
    degraded = overload.degraded(cost)
    assert degraded is not None and degraded.reason == "overload"
    assert degraded.used == {"frames": 4, "visual_tokens": 100, "interval_s": 2}
    run(window_s=60, periods=20)
    assert seen[-1].interval_s > 2, "and longer intervals last"
    run(window_s=0.1, periods=60)
    assert overload.level == Level() and overload.degraded(cost) is None


def test_questions_take_from_the_windows_time() -> None:
    quiet, asked = Overload(0, period_s=10), Overload(0, period_s=10)
    for overload in (quiet, asked):
        for _ in range(6):
            overload.offered()
            overload.served(1)
    asked.asked(6)
    quiet.update(10)
    asked.update(10)
    assert quiet.step == 0 and asked.step == 1


def test_a_pair_of_frames_is_left_at_least() -> None:
    assert Cost(2, 100, 1).at(LEVELS[-1]).frames == 2
    assert Cost(6, 600, 1).at(LEVELS[1]).frames in (2, 4)
    assert Cost(1, 100, 1).at(LEVELS[1]).frames == 1


def test_the_first_of_all_is_found_without_looking_at_all() -> None:
    """Whatever happened before, what starts is what a look at every camera would find."""
    draw = random.Random(5)
    scheduler = Scheduler[str](slots=2)
    running: list[Job[str]] = []
    starts = 0
    for step in range(4000):
        now, camera = step / 4, f"camera{draw.randrange(12)}"
        match draw.randrange(12):
            case 0:
                scheduler.forget(camera)
            case 1:
                scheduler.expired(now)
            case 2 | 3 | 4 if running:
                scheduler.finished(running.pop(draw.randrange(len(running))), now)
            case 5 | 6 | 7:
                candidates = [
                    (due, known.serial, job)
                    for known in scheduler._cameras.values()
                    for due, job in [scheduler._best(known) or (None, None)]
                    if due is not None
                ]
                first = min(candidates, key=lambda each: each[:2])[2] if candidates else None
                found = scheduler.next(now)
                assert found is (first if len(running) < 2 else None)
                if isinstance(found, Job):
                    running.append(found)
                    starts += 1
            case _:
                late = draw.choice([None, 2.0, 40.0])
                rules, priority = draw.choice("ab"), draw.choice([0, 5])
                scheduler.submit(
                    job(camera, now, rules=rules, priority=priority, deadline=late), now
                )
        assert len(scheduler._by_due) <= 2 * 12 + 1
    assert starts > 500


def test_a_thousand_cameras_none_starves_and_no_queue_grows() -> None:
    """1 000 cameras with 24 rules each in one or two sets, one engine, an hour and a half."""
    random.seed(7)
    cameras = [f"camera{i}" for i in range(1000)]
    sets = {name: ["", "porch"] if i % 3 == 0 else [""] for i, name in enumerate(cameras)}
    priority = {(n, s): random.choice([0, 0, 0, 5, 10]) for n in cameras for s in sets[n]}
    deadline = {(n, s): random.choice([None, None, 5.0, 600.0]) for n in cameras for s in sets[n]}
    table = Timetable({name: random.choice([2.0, 4.0, 10.0]) for name in cameras}, 0)
    scheduler = Scheduler[str]()
    overload = Overload(0)
    served: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    keys = sum(map(len, sets.values()))
    ends: list[tuple[float, int, Job[str] | Question[str]]] = []
    now, question_waits, asked_at = 0.0, [], {}
    horizon = 5_000.0
    next_question, next_look, serial = 60.0, 0.0, 0
    while now < horizon:
        for name in table.due(now, overload.level.interval):
            for rules in sets[name]:
                overload.offered()
                scheduler.submit(
                    Job(name, rules, now, "", priority[name, rules], deadline[name, rules]), now
                )
        if now >= next_question:
            question = Question("?")
            scheduler.ask(question)
            asked_at[question] = now
            next_question += 60
        if now >= next_look:
            scheduler.expired(now)
            assert scheduler.waiting <= keys and scheduler.questions <= MAX_QUESTIONS
            next_look = now + 5
        while (work := scheduler.next(now)) is not None:
            serial += 1
            level = overload.level
            if isinstance(work, Question):
                question_waits.append(now - asked_at.pop(work))
                took = 2.0
            else:
                served[work.camera, work.rule_set].append(now)
                took = 1.6 * level.frames * level.size
            heapq.heappush(ends, (now + took, serial, work))
        overload.update(now)
        now = min(table.next(), ends[0][0] if ends else horizon, next_question)
        while ends and ends[0][0] <= now:
            _, _, work = heapq.heappop(ends)
            took = scheduler.finished(work, now)
            (overload.asked if isinstance(work, Question) else overload.served)(took)
    assert overload.step == len(LEVELS) - 1, "a thousand cameras are too many for one engine"
    timeless = [key for key in priority if deadline[key] is None]
    assert all(len(served[key]) >= 2 for key in timeless), "none starves"
    gaps = [b - a for key in timeless for a, b in zip(served[key], served[key][1:], strict=False)]
    assert max(gaps) < 3000
    assert max(question_waits) <= 2, "a person does not wait for a thousand cameras"
