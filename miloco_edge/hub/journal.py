"""Decisions and events on disk: SQLite in WAL mode, bounded by age and size.

An event is committed before any sink hears of it. A commit survives the death of the process (kill
-9); a power cut may take the last of them, for the disk is not waited for (synchronous=NORMAL). A
disk that is full costs no more than what does not fit: events wait in memory, a thousand at most,
and are written when there is room again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from miloco_edge.errors import MilocoEdgeError, NotFoundError, RefusedError
from miloco_edge.hub.event import Event, rfc3339
from miloco_edge.types import RGB, Decision

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id TEXT PRIMARY KEY, time REAL NOT NULL, camera TEXT NOT NULL, rule TEXT NOT NULL,
  state TEXT NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_time ON events (time);
CREATE INDEX IF NOT EXISTS events_rule ON events (camera, rule, time);
CREATE TABLE IF NOT EXISTS decisions (
  time REAL NOT NULL, camera TEXT NOT NULL, rule TEXT NOT NULL, answer TEXT NOT NULL, p_yes REAL,
  outside_mass REAL, path TEXT NOT NULL, reason TEXT, latency_s REAL);
CREATE INDEX IF NOT EXISTS decisions_time ON decisions (time);
CREATE TABLE IF NOT EXISTS owed (
  place INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, id TEXT NOT NULL,
  UNIQUE (sink, id));
CREATE TABLE IF NOT EXISTS states (
  camera TEXT NOT NULL, rule TEXT NOT NULL, state TEXT NOT NULL, time REAL NOT NULL,
  since REAL NOT NULL, blind INTEGER NOT NULL, PRIMARY KEY (camera, rule)) WITHOUT ROWID;
"""
_PRUNE_EVERY = 500
_OWED = 10_000
"""Most events that wait for a sink that cannot be reached; the oldest are given up."""
_WAITING = 1000

Table = Literal["events", "decisions"]


@dataclass(frozen=True)
class Decided:
    """A decision and where it belongs."""

    time: float
    """The end of its window, seconds since 1970."""
    camera: str
    rule: str
    decision: Decision
    latency_s: float | None


class Journal:
    """One process writes, others may read. Any thread may call it."""

    def __init__(self, path: Path, *, days: float = 30.0, max_bytes: int = 256 << 20) -> None:
        self.path, self.days, self.max_bytes = path, days, max_bytes
        self.evidence = path.with_name(path.stem + "-evidence")
        """Folder of the pictures of events, `ID.jpg`, where such are kept."""
        self.error: str | None = None
        """Why the last commit failed; None once one succeeds."""
        self.debtors: tuple[str, ...] = ()
        """Names of the sinks to which every event is owed until it is `settled`."""
        self.lost = 0
        """Events that did not even fit into memory while nothing could be written."""
        self._lock = threading.Lock()
        self._waiting: deque[Event] = deque()
        self._settled: deque[tuple[str, str]] = deque(maxlen=_OWED)
        """Sinks and the ids of what they have got, not yet written."""
        self._commits = 0
        self._moved = False
        """Whether the file was moved aside and there is no other yet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = self._open()
        self.prune()

    def commit(self, events: Sequence[Event] = (), decisions: Sequence[Decided] = ()) -> None:
        """Write in one transaction. A disk that is full is logged once, and does not raise."""
        with self._lock:
            self._waiting.extend(events)
            if self._write(decisions):
                self._commits += 1
            else:
                while len(self._waiting) > _WAITING:
                    self._waiting.popleft()
                    self.lost += 1
        if self._commits >= _PRUNE_EVERY:
            self._commits = 0
            self.prune()

    def owed(self, sink: str, limit: int) -> list[Event]:
        """Events that the sink has not got, in the order in which they were told."""
        try:
            with self._lock:
                had = {id_ for name, id_ in self._settled if name == sink}
                rows = self._database.execute(
                    "SELECT id, document FROM owed JOIN events USING (id) WHERE sink = ? "
                    "ORDER BY place LIMIT ?",
                    (sink, limit + len(had)),
                ).fetchall()
                unwritten = list(self._waiting) if sink in self.debtors else []
        except sqlite3.Error as error:
            log.error("%s: expected what sink %s has not got, got: %s", self.path, sink, error)
            return []
        written = [Event.read(json.loads(text)) for id_, text in rows if id_ not in had]
        return [*written, *(event for event in unwritten if event.id not in had)][:limit]

    def settled(self, sink: str, event: Event) -> None:
        """The sink has got it. What cannot be written now is written with the next commit."""
        with self._lock:
            self._settled.append((sink, event.id))
            self._write()

    def picture(self, event: Event, pixels: RGB) -> Event:
        """The event with a picture of it kept: JPEG in the folder of evidence."""
        if event.evidence is None:
            return event
        path = self.evidence / f"{event.id}.jpg"
        try:
            self.evidence.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path, "JPEG", quality=85)
        except OSError as error:
            log.error("%s: expected to keep a picture, got: %s", path, error)
            return event
        return replace(event, evidence=replace(event.evidence, frame=str(path)))

    def last_states(self) -> dict[tuple[str, str], tuple[str, float, float, bool]]:
        """By camera and rule: the last of on, off and fired, when it was told, since when, and
        whether unknown was told after it.

        In the order of telling, whatever the clock said, and however long ago.
        """
        try:
            with self._lock:
                rows = self._database.execute("SELECT * FROM states").fetchall()
        except sqlite3.Error as error:
            log.error("%s: expected what was told last, got: %s", self.path, error)
            return {}
        return {
            (camera, rule): (state, time_, since, bool(blind))
            for camera, rule, state, time_, since, blind in rows
        }

    def prune(self, now: float | None = None) -> None:
        """Drop what is too old, then the oldest of what is too much: decisions before events."""
        oldest = (time.time() if now is None else now) - self.days * 86400
        try:
            with self._lock:
                for table in ("decisions", "events"):
                    with self._database:
                        self._database.execute(f"DELETE FROM {table} WHERE time < ?", (oldest,))
                for table in ("decisions", "events"):
                    while self._used() > self.max_bytes and self._drop_oldest(table):
                        pass
                with self._database:
                    self._database.execute(
                        "DELETE FROM owed WHERE id NOT IN (SELECT id FROM events) "
                        "OR place IN (SELECT place FROM (SELECT place, row_number() OVER "
                        "(PARTITION BY sink ORDER BY place DESC) AS nth FROM owed) WHERE nth > ?)",
                        (_OWED,),
                    )
                self._database.executescript("PRAGMA incremental_vacuum")
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._prune_evidence(oldest)
        except (sqlite3.Error, OSError) as error:
            log.error("%s: expected to drop what is old, got: %s", self.path, error)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._database.close()

    def _write(self, decisions: Sequence[Decided] = ()) -> bool:
        """Write these and all that waits: whether that was possible. Holds the lock."""
        try:
            if self._moved:
                self._connect_anew()
            with self._database:
                for event in self._waiting:
                    self._insert(event)
                self._database.executemany(
                    "INSERT OR IGNORE INTO owed (sink, id) VALUES (?, ?)",
                    [(sink, event.id) for event in self._waiting for sink in self.debtors],
                )
                # After what is owed: it may be told before it could be written.
                self._database.executemany(
                    "DELETE FROM owed WHERE sink = ? AND id = ?", self._settled
                )
                self._database.executemany(
                    "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [_decision_row(decided) for decided in decisions],
                )
        except sqlite3.Error as error:
            if self.error is None:
                log.error("%s: expected to write, got: %s; the hub goes on", self.path, error)
            self.error = str(error)
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
                self._begin_anew(error)
            return False
        if self.error is not None:
            log.warning("%s: written again; %d events were lost", self.path, self.lost)
        self.error = None
        self._waiting.clear()
        self._settled.clear()
        return True

    def _insert(self, event: Event) -> None:
        """The event, and what it makes of its rule's state; one that is there changes nothing."""
        document = json.dumps(event.document(), ensure_ascii=False)
        place = event.camera, event.rule.id
        new = self._database.execute(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (event.id, event.time, *place, event.state, document),
        )
        if not new.rowcount:
            return
        if event.state == "unknown":
            self._database.execute(
                "UPDATE states SET blind = 1 WHERE camera = ? AND rule = ?", place
            )
        else:
            self._database.execute(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?, 0)",
                (*place, event.state, event.time, event.since),
            )

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise MilocoEdgeError(
                    f"expected to open the journal at {self.path}, got: {error}",
                    hint="check who may write there and what else does; `path` in [journal] of "
                    "home.toml puts it elsewhere",
                ) from error
            # A hub that does not start because of its diary watches nobody.
            self._move_aside(error)
            return self._connect()

    def _begin_anew(self, error: sqlite3.Error) -> None:
        """The damage showed only now: what waits goes to a new file with the next commit."""
        try:
            self._move_aside(error)
            self._database.close()  # takes its WAL with it: before there is another
            self._moved = True
            self._connect_anew()
        except (sqlite3.Error, OSError) as again:
            log.error("%s: expected to begin anew, got: %s", self.path, again)

    def _connect_anew(self) -> None:
        self._database = self._connect()
        self._moved = False

    def _move_aside(self, error: sqlite3.Error) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time():.0f}")
        log.error("%s: expected a journal, got: %s; moved to %s", self.path, error, aside.name)
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=5.0, check_same_thread=False)
        try:
            database.execute("PRAGMA auto_vacuum=INCREMENTAL")
            database.execute("PRAGMA journal_mode=WAL").fetchall()
            database.execute("PRAGMA synchronous=NORMAL")
            database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _used(self) -> int:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _drop_oldest(self, table: str) -> bool:
        """Drop the oldest tenth; whether there was anything to drop."""
        with self._database:
            (count,) = self._database.execute(f"SELECT count(*) FROM {table}").fetchone()
            self._database.execute(
                f"DELETE FROM {table} WHERE time <= (SELECT time FROM {table} ORDER BY time "
                "LIMIT 1 OFFSET ?)",
                (min(count // 10, max(count - 1, 0)),),
            )
        return bool(count)

    def _prune_evidence(self, oldest: float) -> None:
        if not self.evidence.is_dir():
            return
        files = sorted(
            ((file.stat().st_mtime, file.stat().st_size, file) for file in self.evidence.iterdir()),
            reverse=True,
        )
        held = 0
        for written, size, file in files:
            held += size
            if written < oldest or held > self.max_bytes:
                file.unlink(missing_ok=True)


def query(
    path: Path,
    table: Table = "events",
    *,
    start: float | None = None,
    end: float | None = None,
    camera: str | None = None,
    rule: str | None = None,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """What a journal holds, oldest first; with a limit, the newest. Times: seconds since 1970.

    Reads beside a hub that writes. Raises NotFoundError where there is no journal, RefusedError
    where the file is another.
    """
    if not path.is_file():
        raise NotFoundError(
            f"expected a journal at {path}, found none",
            hint="`miloco-edge watch --config home.toml` writes one",
        )
    asked = {"time >= ?": start, "time <= ?": end, "camera = ?": camera, "rule = ?": rule}
    given = {clause: value for clause, value in asked.items() if value is not None}
    columns = "document" if table == "events" else "*"
    where = f"WHERE {' AND '.join(given)}" if given else ""
    newest = f"SELECT {columns}, time AS at FROM {table} {where} ORDER BY time DESC LIMIT ?"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            rows = database.execute(
                f"SELECT * FROM ({newest}) ORDER BY at",
                (*given.values(), -1 if limit is None else limit),
            )
            for row in rows:
                if table == "events":
                    yield json.loads(row["document"])
                else:
                    found = {name: row[name] for name in row.keys() if name != "at"}  # noqa: SIM118
                    yield {**found, "time": rfc3339(row["time"])}
    except sqlite3.Error as error:
        raise RefusedError(f"expected a journal at {path}, got: {error}") from error


def _decision_row(decided: Decided) -> tuple[Any, ...]:
    made = decided.decision
    return (
        decided.time, decided.camera, decided.rule, made.answer, made.p_yes, made.outside_mass,
        made.path, made.reason, decided.latency_s,
    )  # fmt: skip
