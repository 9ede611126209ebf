"""The hub: cameras, rules and one engine in; events out.

    with Hub.from_config("home.toml") as hub:
        hub.on_event(lambda event: print(event.document()))
        answer = hub.ask("nursery", "Is anybody there?").result()

One thread decides everything (who is looked at, what it means, what is told). Cameras, the engine
and the sinks have threads of their own, and it waits for none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from miloco_edge.engine.protocol import Pending, Seen, WindowEngine, refused
from miloco_edge.errors import ClosedError, EngineDownError, NotFoundError
from miloco_edge.hub import config, zoom
from miloco_edge.hub.cameras import Cameras
from miloco_edge.hub.clock import Clock
from miloco_edge.hub.connect import engine_for, sink_for
from miloco_edge.hub.foresight import Demand
from miloco_edge.hub.journal import Decided, Journal
from miloco_edge.hub.loop import Loop
from miloco_edge.hub.outlets import Outlets
from miloco_edge.hub.overload import Overload
from miloco_edge.hub.questions import Asked, put, shown
from miloco_edge.hub.scheduler import Job, Question, Scheduler
from miloco_edge.hub.settings import Home
from miloco_edge.hub.settings import Sink as SinkSettings
from miloco_edge.hub.sinks import Sink
from miloco_edge.hub.status import Status, status_of
from miloco_edge.hub.telling import Made, events_of, in_time, reason_for, unseen
from miloco_edge.hub.tokens import HourlyTokens
from miloco_edge.hub.watch import Look, Told, Watch
from miloco_edge.hub.window import Window
from miloco_edge.types import Answer, Budget, together
from miloco_edge.video import unusable
from miloco_edge.video.source import Source

log = logging.getLogger(__name__)
SinkKinds = Mapping[type, Callable[["Hub", Any], Sink]]

_TICK_S = 0.25
_NO_TIME_S = 1e-3
_DAY_S = 86400.0


class Hub(Outlets):
    """A home that is watched. Make it with `Hub.from_config`; close it, or use it in `with`."""

    def __init__(
        self,
        home: Home,
        engine: WindowEngine,
        *,
        sources: Mapping[str, Source] | None = None,
        clock: Clock | None = None,
        sinks: SinkKinds | None = None,
    ) -> None:
        """`sources` takes the place of the cameras' own, such as `Pushed` frames.

        `sinks` makes sinks of kinds that the hub itself does not know, from the hub and their
        settings: `{MqttSink: miloco_edge.serve.mqtt.Mqtt}`.
        """
        super().__init__()
        self.home, self.engine, self.clock = home, engine, clock or Clock()
        self.journal = Journal(
            home.journal.path, days=home.journal.days, max_bytes=home.journal.max_bytes
        )
        self._sink_kinds = dict(sinks or {})
        self._cameras = Cameras(sources or {}, self.clock)
        self._loop = Loop(self._tick, self._wait_s)
        now = self.clock.steady()
        self._second = self._day = now
        self._scheduler = Scheduler[Look | Asked](slots=engine.slots)
        self._overload = Overload(now, slots=engine.slots)
        self._tokens = HourlyTokens()
        self._pending: set[Pending[Any]] = set()
        self._asked: set[Asked] = set()
        self._closed = False

    @classmethod
    def from_config(cls, path: Path | str, *, sinks: SinkKinds | None = None) -> Hub:
        """The hub of a home.toml, its model in a child process or behind a server.

        Raises NotFoundError and ConfigError; nothing is connected to or loaded before `start`.
        """
        home = config.read(Path(path))
        return cls(home, engine_for(home), sinks=sinks)

    def __enter__(self) -> Hub:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to watch. The model loads meanwhile; `engine.load()` beforehand waits for it."""
        self.journal.debtors = tuple(self.home.sinks)
        for settings in self.home.sinks.values():
            self._add_sink(settings)
        states = self.journal.last_states()
        self._cameras.furnish(self.home)
        for watch in self._cameras:
            watch.remember(states, self.clock.epoch_s, self.clock.steady())
        self._loop.start()

    def close(self) -> None:
        """Stop watching, tell the sinks what there is to tell, end the engine: within a second."""
        if self._closed:
            return
        self._closed = True
        self._loop.stop()
        for pending in tuple(self._pending):
            pending.cancel()
        self._cameras.close()
        self.engine.close()
        for asked in tuple(self._asked):
            asked.end(None, ClosedError("expected an open hub, got one that was closed"))
        self.close_outlets()
        self.journal.close()

    def ask(
        self, camera: str | None, question: str, *, seconds: float | None = None, **options: Any
    ) -> Pending[Answer]:
        """Ask about what a camera shows now, or nothing at all; overtakes the rules.

        `options` as Scene.ask's, and `emit` for the pieces. The future ends with BusyError where
        too many wait, NotFoundError where the camera shows nothing.
        """
        if seconds is not None:
            options["budget"] = replace(options.get("budget") or Budget(), seconds=seconds)
        asked = Asked(camera, question, options)
        self._asked.add(asked)  # before it is looked whether the hub is open: `close` ends all
        asked.future.add_done_callback(lambda _: self._asked.discard(asked))
        if self._closed:
            raise ClosedError("expected an open hub, got one that was closed")
        return put(asked, self._scheduler, self._loop.post)

    def force(self, camera: str) -> None:
        """Look at a camera now, gate or not: the doorbell rang, a sensor saw something."""
        if camera not in self.home.cameras:
            raise NotFoundError(
                f"expected a camera of {', '.join(self.home.cameras)}, got {camera}"
            )
        self._loop.post(partial(self._turn, camera, force=True))

    def status(self) -> Status:
        """How everything is now."""
        return self._loop.call(lambda: status_of(self, self.clock.steady()))

    def reload(self) -> config.Changes:
        """Read home.toml again and take over what changed.

        Raises as `config.reload` and `sink_for` do; what was in force then stays so.
        """
        home, changes = config.reload(self.home)
        for sink in [each for each in home.sinks.values() if type(each) not in self._sink_kinds]:
            sink_for(sink)  # raises for a kind that nobody knows
        if changes:
            self._loop.call(lambda: self._refurnish(home, changes))
            # A sink may take a second to leave: not in the hub's thread, which waits for none.
            for name in changes.sinks:
                self.remove_sink(name, self.journal)
            for name in changes.sinks & home.sinks.keys():
                self._add_sink(home.sinks[name])
            log.info("taken over from %s: %s", home.path, changes)
        return changes

    # What follows runs in the hub's thread.

    def _wait_s(self) -> float:
        """Until the next camera's turn, or something else may be due."""
        return max(0.0, min(_TICK_S, self._cameras.table.next() - self.clock.steady()))

    def _tick(self) -> None:
        now = self.clock.steady()
        for camera in self._cameras.table.due(now, self._overload.level.interval):
            self._turn(camera)
        for job in self._scheduler.expired(now):
            self._unseen(_look(job), "deadline" if self.engine.state == "ready" else "engine_down")
        while (started := self._scheduler.next(now)) is not None:
            self._start(started, now)
        if now - self._second >= 1:
            self._second = now
            for watch in self._cameras:
                self._tell(watch, watch.passed(self._local(), now), None)
            if self._overload.foresee([*self._demands(now)]):
                log.info("intervals are %.4g times as long", self._overload.level.interval)
        if now - self._day >= _DAY_S:
            self._day = now
            self.journal.prune()  # also where nothing comes that would have it pruned
        if self._overload.update(now):
            log.warning("load %.0f %%: %s", 100 * self._overload.load, self._overload.level)
        idle_s = self.home.engine.unload_after_s
        idle = idle_s is not None and self._scheduler.idle_s(now) > idle_s
        if idle and self.engine.state == "ready":
            self.engine.unload()

    def _demands(self, now: float) -> Iterator[Demand]:
        """What comes: off duty, and of a camera that is gone, nothing does."""
        local = self._local()
        for watch in self._cameras:
            status = self._cameras.feeds[watch.camera].status
            began_s = self._cameras.began_s[watch.camera]
            if watch.on_duty(local)[0] and watch.blind(status, began_s, now) is None:
                demand = watch.demand()
                if demand is not None:
                    yield demand

    def _turn(self, camera: str, *, force: bool = False) -> None:
        """A camera's turn: cut a window for each of its watches, and see what is to be done."""
        feed, now = self._cameras.feeds[camera], self.clock.steady()
        status, frames = feed.status, feed.frames()
        for watch in self._cameras.watches.get(camera, ()):
            on_duty, _ = watch.on_duty(self._local())
            if not on_duty:
                continue
            watch.forced |= force  # until there is a new window: this turn may have none
            reason = watch.blind(status, self._cameras.began_s[camera], now)
            if reason is not None:
                self._decided(watch, unseen(on_duty, reason), now, None)
                continue
            window = watch.cut(frames)
            if window is None:
                continue
            reason = unusable([frame.pixels for frame in window.frames])
            if reason is not None:
                self._decided(watch, unseen(on_duty, reason), window.end_s, window)
            elif watch.passes(self.home.gate, window, window.end_s):
                self._submit(watch.look(window, on_duty), now)

    def _submit(self, look: Look, now: float) -> None:
        self._overload.offered()
        self._scheduler.submit(look.job(), now)

    def _start(self, started: Job[Look | Asked] | Question[Look | Asked], now: float) -> None:
        try:
            if isinstance(started, Question):
                asked = started.work
                assert isinstance(asked, Asked)
                clip = shown(asked.camera, self.home.cameras, self._cameras, now)
                pending: Pending[Any] = asked.begin(self.engine, clip)
            else:
                pending = self._begin_look(started, now)
        except Exception as error:
            pending = refused(error)
        self._pending.add(pending)
        pending.future.add_done_callback(
            lambda _: self._loop.post(partial(self._ended, started, pending))
        )

    def _begin_look(self, job: Job[Look | Asked], now: float) -> Pending[Seen]:
        look = _look(job)
        cost = look.watch.cost(self.home.engine.visual_tokens)
        look.watch.degraded = self._overload.degraded(cost)
        cost = cost.at(self._overload.level)
        seconds = None if job.deadline_s is None else max(job.expires_s - now, _NO_TIME_S)
        budget = Budget(visual_tokens=cost.visual_tokens, seconds=seconds)
        # What can be done without is the first to give way.
        spare = self._overload.step == 0
        clip = look.clip(cost)
        return zoom.decide(self.engine, clip, look.rules, budget, look.box, spare=spare)

    def _ended(
        self, started: Job[Look | Asked] | Question[Look | Asked], pending: Pending[Any]
    ) -> None:
        now = self.clock.steady()
        self._pending.discard(pending)
        took = self._scheduler.finished(started, now)
        error = (
            ClosedError("the request was cancelled")
            if pending.future.cancelled()
            else pending.future.exception()
        )
        if isinstance(started, Question):
            self._overload.asked(took)
            answer = None if error is not None else pending.future.result()
            if answer is not None:
                spent = answer.usage.prompt_tokens + answer.usage.completion_tokens
                self._tokens.add(now, spent)
            assert isinstance(started.work, Asked)
            started.work.end(answer, error)
        elif error is not None:
            level = logging.INFO if isinstance(error, EngineDownError) else logging.ERROR
            log.log(level, "%s", error)
            self._unseen(_look(started), reason_for(error))
        else:
            self._overload.served(took)
            seen = pending.future.result()
            in_full = seen.degraded is None or seen.degraded.reason != "deadline"
            _look(started).watch.took(took, None if in_full else seen.degraded)
            self._seen(_look(started), seen, now)
        while (following := self._scheduler.next(now)) is not None:
            self._start(following, now)

    def _seen(self, look: Look, seen: Seen, now: float) -> None:
        self._tokens.add(now, seen.usage.prompt_tokens + seen.usage.completion_tokens)
        late = now - look.window.end_s
        if any(decision.answer != "unknown" for decision in seen.decisions):
            look.watch.was_examined(self.home.gate, look.window)
        look.watch.latency_s = late
        made = in_time(look.rules, seen, late)
        self._decided(look.watch, made, look.window.end_s, look.window, seen)

    def _unseen(self, look: Look, reason: str) -> None:
        self._decided(look.watch, unseen(look.rules, reason), look.window.end_s, look.window)

    def _decided(
        self,
        watch: Watch,
        decisions: Made,
        time_s: float,
        window: Window | None,
        seen: Seen | None = None,
    ) -> None:
        if watch not in self._cameras:
            return  # its rules were edited while it was looked at
        epoch_s, now = self.clock.epoch_s, self.clock.steady()
        rows = [
            Decided(time_s + epoch_s, watch.camera, rule.id, decision, now - time_s)
            for rule, decision in decisions
            if seen is not None
        ]
        self._tell(watch, watch.decided(decisions, time_s), window, rows, seen)

    def _tell(
        self,
        watch: Watch,
        told: Told,
        window: Window | None,
        rows: list[Decided] | None = None,
        seen: Seen | None = None,
    ) -> None:
        """Journal first, then everybody else."""
        if not told and not rows:
            return
        degraded = together(watch.degraded, None if seen is None else seen.degraded)
        events = events_of(
            told,
            watch.camera,
            window,
            epoch_s=self.clock.epoch_s,
            now=self.clock.steady(),
            model=self.engine.name,
            degraded=degraded,
        )
        if window is not None and self.home.journal.evidence:
            events = [self.journal.picture(event, window.frames[-1].pixels) for event in events]
        self.journal.commit(events, rows or ())
        for event in events:
            self.tell(event)

    def _refurnish(self, home: Home, changes: config.Changes) -> None:
        for name in changes.cameras:
            self._scheduler.forget(name)
        self.home = home
        self.journal.debtors = tuple(home.sinks)
        self._cameras.furnish(home, changed=changes.cameras)

    def _add_sink(self, settings: SinkSettings) -> None:
        make = self._sink_kinds.get(type(settings))
        sink = sink_for(settings) if make is None else make(self, settings)
        self.add_sink(sink, self.journal)

    def _local(self) -> datetime:
        """The time of day in the home."""
        return datetime.fromtimestamp(self.clock.wall(), self.home.time_zone)


def _look(job: Job[Look | Asked]) -> Look:
    assert isinstance(job.work, Look)
    return job.work
