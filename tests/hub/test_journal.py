from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from miloco_edge.errors import MilocoEdgeError, NotFoundError, RefusedError
from miloco_edge.hub.event import Event, Evidence
from miloco_edge.hub.journal import Decided, Journal, query
from miloco_edge.hub.rules import Rule
from miloco_edge.types import Decision

RULE = Rule("reading", "Someone is reading", cameras=("hall",))
YES = Decision(RULE.text, "yes", 0.9, 0.01, "logits")


def event(number: int, **changes: Any) -> Event:
    facts = {"time": time.time() - 1000 + number, "camera": "hall", "rule": RULE, "state": "on"}
    facts["since"] = facts["time"]
    return Event(f"id{number}", **{**facts, **changes})


def test_events_come_back_as_they_were_told(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.sqlite"
    told = [event(i, camera="porch" if i % 2 else "hall") for i in range(6)]
    journal = Journal(path)
    journal.commit(told, [Decided(told[0].time, "hall", "reading", YES, 0.5)])
    journal.commit(told[:1])
    assert list(query(path)) == [each.document() for each in told], "while it is written, once each"
    assert [e["id"] for e in query(path, camera="porch")] == ["id1", "id3", "id5"]
    assert [e["id"] for e in query(path, limit=2)] == ["id4", "id5"], "the newest"
    assert [e["id"] for e in query(path, start=told[4].time)] == ["id4", "id5"]
    assert [e["id"] for e in query(path, end=told[0].time)] == ["id0"]
    assert list(query(path, rule="other")) == []
    (decision,) = query(path, "decisions")
    assert (decision["answer"], decision["p_yes"], decision["latency_s"]) == ("yes", 0.9, 0.5)
    assert decision["time"] == told[0].document()["time"]
    journal.close()
    journal.close()
    with pytest.raises(NotFoundError):
        next(query(tmp_path / "other.sqlite"))


def test_the_last_states_are_those_that_are_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    on, blind = event(1), event(2, state="unknown", reason="stale")
    gone = event(3, camera="porch", state="off")
    journal.commit([on, blind, gone])
    states = journal.last_states()
    assert states["hall", "reading"][0] == "on" and states["porch", "reading"][0] == "off"
    assert states["hall", "reading"][2] == pytest.approx(on.since, abs=0.001)
    journal.close()


def test_the_last_state_is_the_one_told_last(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", days=1)
    on, off = event(20), event(10, state="off")  # the clock was set back between them
    journal.commit([on])
    journal.commit([off, event(5, state="unknown")])
    journal.commit([on])  # known already
    assert journal.last_states()["hall", "reading"] == ("off", off.time, off.since, True)
    journal.prune(off.time + 2 * 86400)
    assert not list(query(journal.path))
    journal.close()
    again = Journal(journal.path, days=1)
    assert again.last_states()["hall", "reading"][0] == "off", "it still is, however long ago"
    again.close()


def test_age_and_size_are_bounded_and_decisions_go_first(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, days=1, max_bytes=300_000)
    now = time.time()
    journal.commit([event(0, time=now - 2 * 86400), event(1)])
    journal.commit((), [Decided(now + i, "hall", "reading", YES, 0.5) for i in range(20_000)])
    journal.prune()
    assert [e["id"] for e in query(path)] == ["id1"]
    left = list(query(path, "decisions"))
    assert 0 < len(left) < 20_000
    assert path.stat().st_size < 400_000
    journal.close()


def test_a_full_disk_is_said_once_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
    journal._database.execute(f"PRAGMA max_page_count={pages}").fetchall()
    text = Rule("long", "x" * 20_000, cameras=("hall",))
    journal.commit([event(1, rule=text)])
    journal.commit([event(2, rule=text)])
    assert journal.error is not None and "full" in journal.error
    assert caplog.text.count("disk is full") == 1, "once"
    journal._database.execute("PRAGMA max_page_count=100000").fetchall()
    journal.commit([event(3)])
    assert journal.error is None and journal.lost == 0
    assert [e["id"] for e in query(path)] == ["id1", "id2", "id3"]
    journal.close()


def test_what_a_sink_got_while_the_disk_was_full_is_not_owed_afterwards(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.debtors = ("near", "far")
    journal.commit([event(1)])
    journal._database.execute("PRAGMA query_only=1")
    journal.commit([event(2)])
    assert journal.error is not None
    assert [each.id for each in journal.owed("near", 9)] == ["id1", "id2"], "unwritten ones too"
    for number in (1, 2):
        journal.settled("near", event(number))
    assert journal.owed("near", 9) == [], "or they would be sent again and again"
    journal._database.execute("PRAGMA query_only=0")
    journal.commit([event(3)])
    assert [each.id for each in journal.owed("near", 9)] == ["id3"]
    assert [each.id for each in journal.owed("far", 9)] == ["id1", "id2", "id3"]
    assert [each.id for each in journal.owed("far", 2)] == ["id1", "id2"]
    journal.close()


def test_a_sink_that_is_gone_for_long_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miloco_edge.hub.journal._OWED", 5)
    journal = Journal(tmp_path / "journal.sqlite")
    journal.debtors = ("dead", "slow")
    for number in range(4):
        journal.commit([event(number)])
    journal.debtors = ("dead",)
    for number in range(4, 12):
        journal.commit([event(number)])
    journal.prune()
    assert [each.id for each in journal.owed("slow", 99)] == ["id0", "id1", "id2", "id3"]
    assert [each.id for each in journal.owed("dead", 99)] == [f"id{n}" for n in range(7, 12)]
    journal.close()


def test_a_journal_that_cannot_be_had_is_an_error_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(MilocoEdgeError, match=r"expected to open the journal at .*folder") as no:
        Journal(tmp_path / "folder.sqlite")
    assert no.value.hint
    (tmp_path / "other.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(RefusedError, match="expected a journal at"):
        next(query(tmp_path / "other.sqlite"))
    journal = Journal(tmp_path / "journal.sqlite")
    journal.close()
    assert journal.last_states() == {}, "nothing is known; the home is watched all the same"
    assert "expected what was told last" in caplog.text


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database" * 100)
    journal = Journal(path)
    journal.commit([event(1)])
    journal.close()
    assert len(list(query(path))) == 1
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


@pytest.mark.parametrize("full", [False, True])
def test_a_file_that_is_damaged_further_in_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.commit([event(number) for number in range(500)])
    journal.close()
    content = bytearray(path.read_bytes())
    for page in range(8 * 4096, len(content), 4096):
        content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    journal = Journal(path)
    with monkeypatch.context() as patched:
        if full:
            fault = Mock(side_effect=sqlite3.OperationalError("database or disk is full"))
            patched.setattr(journal, "_connect", fault)
        journal.commit([event(501)])
    assert journal.error is not None
    journal.commit([event(502)])
    assert journal.error is None and journal.lost == 0
    journal.close()
    assert [row["id"] for row in query(path)] == ["id501", "id502"]
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


def test_pictures_are_kept_beside_it_and_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.sqlite", days=1)
    pixels = np.zeros((20, 30, 3), np.uint8)
    kept = journal.picture(event(1, evidence=Evidence(0, 1, 2)), pixels)
    assert kept.evidence is not None and kept.evidence.frame is not None
    picture = Path(kept.evidence.frame)
    assert picture.read_bytes()[:2] == b"\xff\xd8"
    nothing_seen = event(2)
    assert journal.picture(nothing_seen, pixels) is nothing_seen
    journal.prune(time.time() + 2 * 86400)
    assert not picture.exists()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    without = journal.picture(event(3, evidence=Evidence(0, 1, 2)), pixels)
    assert without.evidence is not None and without.evidence.frame is None
    journal.close()


WRITER = """
import sys, time
from pathlib import Path
from tests.hub.test_journal import event
from miloco_edge.hub.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(100_000):
    journal.commit([event(number)])
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    root = Path(__file__).parents[2]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(50):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        said = writer.stdout.read().split()
    writer.wait()
    last = int(said[-1]) if said else 49
    found = {e["id"] for e in query(path)}
    assert {f"id{i}" for i in range(last + 1)} <= found
    journal = Journal(path)
    journal.commit([event(-1)])
    journal.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
