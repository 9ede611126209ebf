from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from miloco_edge.errors import BusyError, ClosedError, NotFoundError
from miloco_edge.hub.clock import Clock
from miloco_edge.hub.event import Event
from miloco_edge.hub.gate import GateSettings
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.schedule import Schedule
from miloco_edge.hub.scheduler import MAX_QUESTIONS
from miloco_edge.hub.settings import EngineSettings
from miloco_edge.video.played import Pushed
from tests.hub.home import DOWN, RULE, Camera, FakeEngine, home, states, until
from tests.hub.test_journal import event


def test_a_state_begins_and_ends_once_and_is_journalled(tmp_path: Path) -> None:
    events: list[Event] = []
    engine = FakeEngine()
    with Camera() as camera, Hub(home(tmp_path), engine, sources={"hall": camera}) as hub:
        hub.on_event(events.append)
        until(lambda: engine.shown)
        camera.show(200)
        until(lambda: states(events) == ["on"])
        time.sleep(0.5)
        camera.show(40)
        until(lambda: states(events) == ["on", "off"])
        status = hub.status()
    on, off = events
    assert (on.camera, on.rule.id, on.model) == ("hall", "lit", "fake")
    assert on.p_yes is not None and on.p_yes > 0.5 and on.degraded is None
    assert on.evidence is not None and on.evidence.frames in (2, 4)
    assert on.latency_s is not None and 0 <= on.latency_s < 1
    assert abs(on.time - time.time()) < 10 and on.time < off.time
    assert status.tokens_last_hour >= 100 * len(engine.shown) - 100
    assert status.views[0].rules[0].decision is not None
    journal = list(query(tmp_path / "journal.sqlite"))
    assert [e["id"] for e in journal] == [on.id, off.id]
    assert journal[0] == json.loads(json.dumps(on.document()))
    decisions = list(query(tmp_path / "journal.sqlite", "decisions", rule="lit", limit=3))
    assert len(decisions) == 3 and decisions[-1]["answer"] == "no"


def test_a_still_camera_costs_nothing_but_heartbeats(tmp_path: Path) -> None:
    engine = FakeEngine()
    settings = home(tmp_path, gate=GateSettings(heartbeat_s=60))
    with Camera() as camera, Hub(settings, engine, sources={"hall": camera}) as hub:
        until(lambda: hub.status().views[0].gate_counts.get("skip:still", 0) > 5)
        looked = len(engine.shown)
        assert looked <= 3
        hub.force("hall")
        until(lambda: len(engine.shown) == looked + 1)
        assert hub.status().views[0].gate_counts["look:forced"] == 1
        with pytest.raises(NotFoundError, match="hall"):
            hub.force("cellar")


def test_a_dead_engine_is_said_once_and_seen_again(tmp_path: Path) -> None:
    events: list[Event] = []
    engine = FakeEngine()
    engine.fault = DOWN
    with Camera() as camera, Hub(home(tmp_path), engine, sources={"hall": camera}) as hub:
        hub.on_event(events.append)
        until(lambda: len(engine.shown) > 3)
        engine.fault = None
        until(lambda: len(events) == 2)
    assert [(e.state, e.reason) for e in events] == [
        ("unknown", "engine_down"),
        ("off", "seen_again"),
    ]


@pytest.mark.parametrize("fault", ["unplugged", "black", "frozen"])
def test_what_cannot_be_seen_is_unknown_and_the_engine_is_not_asked(
    tmp_path: Path, fault: str
) -> None:
    events: list[Event] = []
    engine, camera = FakeEngine(), Camera()
    settings = home(tmp_path)
    if fault == "frozen":
        hall = replace(settings.cameras["hall"], frozen_after_s=0.3)
        settings = replace(settings, cameras={"hall": hall})
    with camera, Hub(settings, engine, sources={"hall": camera}) as hub:
        hub.on_event(events.append)
        until(lambda: engine.shown)
        if fault == "black":
            camera.show(-200)
        else:
            camera.stopped.set()  # type: ignore[attr-defined]
        if fault == "frozen":
            picture = hub._cameras.feeds["hall"].frames()[-1].pixels
            for _ in range(30):
                camera.push(picture)
                time.sleep(0.04)
        until(lambda: events)
        looked = len(engine.shown)
        time.sleep(0.3)
        assert len(engine.shown) <= looked + 1
    expected = {"unplugged": "stale"}.get(fault, fault)
    assert (events[0].state, events[0].reason) == ("unknown", expected)
    assert len(events) == 1


def test_a_late_answer_is_no_answer(tmp_path: Path) -> None:
    events: list[Event] = []
    hasty, patient = replace(RULE, deadline_s=0.2), replace(RULE, id="patient")
    engine = FakeEngine(seconds=0.4)
    with (
        Camera(level=200) as camera,
        Hub(home(tmp_path, hasty, patient), engine, sources={"hall": camera}) as hub,
    ):
        hub.on_event(events.append)
        until(lambda: len(events) >= 2)
    told = {(e.rule.id, e.state, e.reason) for e in events}
    assert told == {("lit", "unknown", "deadline"), ("patient", "on", None)}


def test_a_question_is_answered_about_now(tmp_path: Path) -> None:
    engine = FakeEngine()
    with Camera() as camera, Hub(home(tmp_path), engine, sources={"hall": camera}) as hub:
        until(lambda: engine.shown)
        # At first there is less to see than a whole window.
        until(lambda: hub.ask("hall", "Who?").result(5).text == "4 frames")
        assert hub.ask(None, "Hello?").result(5).text == "nothing"
        with pytest.raises(NotFoundError):
            hub.ask("cellar", "Who?").result(5)
    with pytest.raises(ClosedError):
        hub.ask(None, "Still there?")


def test_a_question_is_not_answered_about_what_a_lost_camera_showed_last(tmp_path: Path) -> None:
    engine, events = FakeEngine(), list[Event]()
    with Camera() as camera, Hub(home(tmp_path), engine, sources={"hall": camera}) as hub:
        hub.on_event(events.append)
        until(lambda: engine.shown)
        camera.stopped.set()  # type: ignore[attr-defined]
        until(lambda: [event.reason for event in events] == ["stale"])
        with pytest.raises(NotFoundError, match="stale"):
            hub.ask("hall", "Is anybody there?").result(5)
    assert not engine.asked


def test_a_burst_of_questions_does_not_stop_the_rules(tmp_path: Path) -> None:
    engine = FakeEngine(seconds=0.01)
    events: list[Event] = []
    with Camera() as camera, Hub(home(tmp_path), engine, sources={"hall": camera}) as hub:
        hub.on_event(events.append)
        until(lambda: engine.shown)
        pending = [hub.ask(None, f"{i}?") for i in range(200)]
        camera.show(200)
        outcomes = []
        for each in pending:
            try:
                outcomes.append(each.result(30).text)
            except BusyError as error:
                outcomes.append("busy")
                assert error.retry_after_s > 0
        until(lambda: "on" in states(events))
    assert outcomes.count("nothing") >= MAX_QUESTIONS
    assert outcomes.count("busy") == 200 - outcomes.count("nothing") > 0


def test_a_question_that_nobody_waits_for_is_not_asked(tmp_path: Path) -> None:
    engine = FakeEngine(seconds=0.3)
    with Hub(home(tmp_path), engine, sources={"hall": Camera()}) as hub:
        first, second = hub.ask(None, "first"), hub.ask(None, "second")
        until(lambda: engine.asked == ["first"])
        second.cancel()
        first.cancel()
        until(lambda: first.future.done() and second.future.cancelled())
        time.sleep(0.2)
        assert engine.asked == ["first"]


def test_overload_is_visible_in_every_event(tmp_path: Path) -> None:
    events: list[Event] = []
    engine = FakeEngine(seconds=0.3)
    settings = home(tmp_path, gate=GateSettings(enabled=False))
    hub = Hub(settings, engine, sources={"hall": (camera := Camera())})
    hub._overload.period_s = 0.5
    with camera, hub:
        until(lambda: hub.status().level.frames < 1)
        hub.on_event(events.append)
        camera.show(200)
        until(lambda: events)
    degraded = events[0].degraded
    assert degraded is not None and degraded.reason == "overload"
    assert degraded.used["frames"] < degraded.asked["frames"] == 4
    assert len(engine.shown[-1][0].frames) == 2


def test_intervals_are_not_stretched_for_what_does_not_come(tmp_path: Path) -> None:
    at_night = replace(
        RULE, id="night", cameras=("porch",), schedule=Schedule.parse("00:00-01:00"), deadline_s=11
    )
    gone = replace(RULE, id="gone", cameras=("attic",), deadline_s=11)
    made = home(
        tmp_path, RULE, at_night, gone,
        cameras=("hall", "porch", "attic"), time_zone=ZoneInfo("UTC"),
    )  # fmt: skip
    noon = Clock(wall=lambda: 43200.0)
    with (
        Camera() as hall,
        Camera("porch") as porch,
        Hub(
            made,
            FakeEngine(),
            sources={"hall": hall, "porch": porch, "attic": Pushed("attic")},
            clock=noon,
        ) as hub,
    ):
        for camera in ("porch", "attic"):
            hub._cameras.watches[camera][0].takes_s = 10.0
        time.sleep(2.2)
        assert hub.status().level.interval == 1
        hub._cameras.watches["hall"][0].takes_s = 10.0
        hub._cameras.watches["hall"][0].rules = (replace(RULE, deadline_s=11),)
        until(lambda: hub.status().level.interval == 2)


def test_a_clock_that_is_set_changes_times_of_day_and_nothing_else(tmp_path: Path) -> None:
    events: list[Event] = []
    offset = [0.0]
    clock = Clock(wall=lambda: time.time() + offset[0])
    engine = FakeEngine()
    with (
        Camera() as camera,
        Hub(home(tmp_path), engine, sources={"hall": camera}, clock=clock) as hub,
    ):
        hub.on_event(events.append)
        until(lambda: engine.shown)
        offset[0] = -86400.0
        camera.show(200)
        until(lambda: states(events) == ["on"])
        offset[0] = 86400.0
        camera.show(40)
        until(lambda: states(events) == ["on", "off"])
    assert events[1].time - events[0].time == pytest.approx(2 * 86400, abs=30)
    assert all(e.latency_s is not None and 0 <= e.latency_s < 2 for e in events)


def test_after_a_restart_nothing_is_told_twice(tmp_path: Path) -> None:
    told: list[Event] = []
    for _ in range(2):
        engine = FakeEngine()
        with (
            Camera(level=200) as camera,
            Hub(home(tmp_path), engine, sources={"hall": camera}) as hub,
        ):
            hub.on_event(told.append)
            until(lambda engine=engine: len(engine.shown) >= 2 or told)
            until(lambda: told)
            time.sleep(0.3)
    assert states(told) == ["on"]
    with (
        Camera(level=40) as camera,
        Hub(home(tmp_path), FakeEngine(), sources={"hall": camera}) as hub,
    ):
        hub.on_event(told.append)
        until(lambda: states(told) == ["on", "off"])


def test_what_was_unknown_before_a_restart_is_seen_again_after_it(tmp_path: Path) -> None:
    told: list[Event] = []
    with (
        Camera(level=200) as camera,
        Hub(home(tmp_path), FakeEngine(), sources={"hall": camera}) as hub,
    ):
        hub.on_event(told.append)
        until(lambda: told)
        camera.stopped.set()  # type: ignore[attr-defined]
        until(lambda: states(told) == ["on", "unknown"])
    with (
        Camera(level=200) as camera,
        Hub(home(tmp_path), FakeEngine(), sources={"hall": camera}) as hub,
    ):
        hub.on_event(told.append)
        until(lambda: len(told) > 2)
    assert [(e.state, e.reason) for e in told[2:]] == [("on", "seen_again")]


def test_a_state_told_by_a_clock_that_ran_ahead_ends_all_the_same(tmp_path: Path) -> None:
    told: list[Event] = []
    for level, ahead_s in ((200, 0.0), (40, -3600.0)):
        clock = Clock(wall=lambda ahead_s=ahead_s: time.time() + ahead_s)
        with (
            Camera(level=level) as camera,
            Hub(home(tmp_path), FakeEngine(), sources={"hall": camera}, clock=clock) as hub,
        ):
            hub.on_event(told.append)
            until(lambda level=level: states(told) == ["on", "off"][: 1 + (level == 40)])


def test_what_is_too_old_goes_though_nothing_new_comes(tmp_path: Path) -> None:
    days = [0.0]
    clock = Clock(steady=lambda: time.monotonic() + 86400 * days[0])
    with Hub(home(tmp_path), FakeEngine(), sources={"hall": Pushed("hall")}, clock=clock) as hub:
        hub.journal.commit([replace(event(1), time=time.time() - 31 * 86400)])
        assert len(list(query(hub.journal.path))) == 1
        days[0] = 1.01
        until(lambda: "id1" not in [row["id"] for row in query(hub.journal.path)])


def test_an_idle_model_is_unloaded(tmp_path: Path) -> None:
    engine = FakeEngine()
    settings = home(
        tmp_path,
        gate=GateSettings(heartbeat_s=600),
        engine=EngineSettings(unload_after_s=0.4),
    )
    with Camera() as camera, Hub(settings, engine, sources={"hall": camera}):
        until(lambda: engine.unloads == 1)


def test_events_can_be_iterated_until_the_hub_is_closed(tmp_path: Path) -> None:
    async def run() -> list[str]:
        heard = []
        with Camera() as camera:
            hub = Hub(home(tmp_path), engine, sources={"hall": camera})
            hub.start()
            camera.show(200)
            async for event in hub.events():
                heard.append(event.state)
                await asyncio.to_thread(hub.close)
        return heard

    engine = FakeEngine()
    assert asyncio.run(run()) == ["on"]


def test_who_asked_is_told_when_the_hub_is_closed(tmp_path: Path) -> None:
    engine = FakeEngine(seconds=30)
    hub = Hub(home(tmp_path), engine, sources={"hall": Camera()})
    hub.start()
    under_way, waiting = hub.ask(None, "first"), hub.ask(None, "second")
    until(lambda: engine.asked == ["first"])
    hub.close()
    for question in (under_way, waiting):
        with pytest.raises(ClosedError):
            question.result(1)


def test_close_takes_less_than_a_second_whatever_runs(tmp_path: Path) -> None:
    engine = FakeEngine(seconds=30)
    threads = threading.active_count()
    with Camera() as camera:
        hub = Hub(home(tmp_path), engine, sources={"hall": camera})
        hub.on_event(lambda _: time.sleep(30))
        hub.start()
        until(lambda: engine.shown)
        began = time.monotonic()
        hub.close()
        hub.close()
        assert time.monotonic() - began < 1
    until(lambda: threading.active_count() <= threads)


def test_masks_and_zones_reach_the_engine(tmp_path: Path) -> None:
    from miloco_edge.video.mask import Polygon

    left = Polygon(((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    rule = Rule("gate", "The gate is open", cameras=("hall",), zone="gate")
    settings = home(tmp_path, RULE, rule)
    hall = replace(settings.cameras["hall"], zones={"gate": left})
    engine = FakeEngine()
    with (
        Camera() as camera,
        Hub(replace(settings, cameras={"hall": hall}), engine, sources={"hall": camera}),
    ):
        until(lambda: len({tuple(rules) for _, rules, _ in engine.shown}) == 2)
    widths = {rules[0]: clip.frames[0].size[0] for clip, rules, _ in engine.shown}
    assert widths[RULE.text] == 64 and widths[rule.text] in (32, 33)
