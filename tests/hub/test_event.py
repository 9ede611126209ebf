from __future__ import annotations

import json
from zoneinfo import ZoneInfo

from miloco_edge.hub.event import Event, Evidence
from miloco_edge.hub.rules import Change, Rule
from miloco_edge.types import Degraded
from tests.hub.test_journal import event

RULE = Rule("standing", "The baby is standing in the cot", ("nursery",))
EPOCH = 1_790_000_000.0


def test_an_event_as_the_contract_has_it() -> None:
    event = Event.of(
        Change("on", 12.5, 10.0, 0.93),
        RULE,
        "nursery",
        epoch_s=EPOCH,
        evidence=Evidence(EPOCH + 9.5, EPOCH + 12.5, 6),
        latency_s=0.8,
        model="demo",
        degraded=Degraded("overload", {"frames": 6}, {"frames": 2}),
    )
    document = event.document(ZoneInfo("Europe/Berlin"))
    assert document == {
        "id": event.id,
        "time": "2026-09-21T16:13:32.500+02:00",
        "camera": "nursery",
        "rule": {"id": "standing", "text": RULE.text, "kind": "state"},
        "state": "on",
        "p_yes": 0.93,
        "reason": None,
        "since": "2026-09-21T16:13:30.000+02:00",
        "window": {
            "start": "2026-09-21T16:13:29.500+02:00",
            "end": "2026-09-21T16:13:32.500+02:00",
            "frames": 6,
        },
        "evidence": {"frame": None},
        "latency_s": 0.8,
        "model": "demo",
        "degraded": {"reason": "overload", "asked": {"frames": 6}, "used": {"frames": 2}},
    }


def test_what_does_not_apply_is_null_and_never_absent() -> None:
    change = Change("off", 1.0, 1.0, None, "schedule")
    document = Event.of(change, RULE, "nursery", epoch_s=EPOCH).document()
    assert document["window"] is None
    assert document["evidence"] == {"frame": None}
    assert document["degraded"] is None
    assert len(document) == 13


def test_the_same_change_has_the_same_id() -> None:
    def made(state: str, camera: str = "nursery", time_s: float = 1.0) -> str:
        return Event.of(Change(state, time_s, 1.0), RULE, camera, epoch_s=EPOCH).id  # type: ignore[arg-type]

    assert made("on") == made("on")
    assert len({made("on"), made("off"), made("on", "hall"), made("on", time_s=2.0)}) == 4


def test_an_event_is_read_back_from_its_document() -> None:
    told = event(
        1, evidence=Evidence(1.5, 4.25, 6, "a.jpg"), degraded=Degraded("load", {"n": 2}, {"n": 1})
    )
    again = Event.read(json.loads(json.dumps(told.document())))
    assert again.document() == told.document()
    assert Event.read(event(2).document()).document() == event(2).document()
