"""Who is looked at next: a pure core, told the time, that starts nothing itself.

    scheduler.submit(job, now)               # replaces an older window of that camera and rule set
    while (started := scheduler.next(now)):   # a job or a question to hand to the engine
        ...
    scheduler.finished(started, now)

Each pair of camera and rule set has at most one window waiting and one under way, so what waits is
bounded by what is configured. Windows go by the moment at which each should be looked at: when its
turn came, later by what its deadline leaves, sooner by its priority. That moment is fixed while it
waits and those of newcomers move on with the clock: nobody waits for ever. A camera's turn comes
later the more of the engine it has had (start-time fair queueing, Goyal et al. 1996), so that one
with many rule sets or long windows does not crowd out the others. Since a moment changes only when
something happens to its camera, cameras are kept in a heap by it.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from miloco_edge.errors import BusyError

T = TypeVar("T")

PRIORITY_S = 2.0
"""One step of priority is worth so much waiting."""
NO_DEADLINE_S = 30.0
"""A window without a deadline goes as if it had this one."""
OVERTAKEN = 4
"""So many questions may start before a window that is waiting or under way is through."""
MAX_QUESTIONS = 64
"""More do not wait: they are refused at once."""


@dataclass(frozen=True, eq=False)
class Job(Generic[T]):
    """A window to be looked at. Times are seconds of the steady clock."""

    camera: str
    rule_set: str
    captured_s: float
    """When its last frame was captured."""
    work: T
    priority: int = 0
    deadline_s: float | None = None
    """After `captured_s`; a window that has not been started by then is of no use."""

    @property
    def expires_s(self) -> float:
        """When it is of no use any more."""
        return float("inf") if self.deadline_s is None else self.captured_s + self.deadline_s


@dataclass(frozen=True, eq=False)
class Question(Generic[T]):
    """What a person wants to know now."""

    work: T


@dataclass
class Counts:
    """What became of what was handed in."""

    submitted: int = 0
    started: int = 0
    superseded: int = 0
    """Windows that gave way to a newer one before they were looked at."""
    expired: int = 0
    questions: int = 0
    refused: int = 0
    """Questions that came when too many were waiting."""


@dataclass
class _Camera(Generic[T]):
    """What is known of a camera: its turn, and what waits."""

    serial: int
    """Of two that are due at the same moment the one that came first is looked at."""
    turn_s: float = float("-inf")
    """Not before this, if others wait: what it has had of the engine, shared fairly."""
    waiting: dict[str, tuple[float, Job[T]]] = field(default_factory=dict)
    """By rule set: since when one waits, and the newest window."""
    due_s: float | None = None
    """When it should be looked at; None where nothing waits that may start."""


class Scheduler(Generic[T]):
    """What waits and what is under way. Used by one thread."""

    def __init__(self, *, slots: int = 1) -> None:
        self.slots = slots
        self.counts = Counts()
        self._cameras: dict[str, _Camera[T]] = {}
        self._serial = 0
        self._wanting: set[str] = set()
        """Cameras for which something waits."""
        self._by_due: list[tuple[float, int, str]] = []
        """Heap of moment, serial and camera; what no longer agrees with the camera is void."""
        self._under_way: dict[Job[T], float] = {}
        self._questions: deque[Question[T]] = deque()
        self._asking: dict[Question[T], float] = {}
        self._overtaken = 0
        self._question_s = 10.0
        self._idle_since_s: float | None = None

    @property
    def waiting(self) -> int:
        """Windows that wait."""
        return sum(len(camera.waiting) for camera in self._cameras.values())

    @property
    def questions(self) -> int:
        """Questions that wait."""
        return len(self._questions)

    def submit(self, job: Job[T], now: float) -> Job[T] | None:
        """A new window; the older one that it replaces, which keeps its place, is returned."""
        self.counts.submitted += 1
        camera = self._cameras.get(job.camera)
        if camera is None:
            self._serial += 1
            camera = self._cameras[job.camera] = _Camera(self._serial)
        since, older = camera.waiting.get(job.rule_set, (now, None))
        camera.waiting[job.rule_set] = (since, job)
        self.counts.superseded += older is not None
        self._place(job.camera)
        return older

    def ask(self, question: Question[T]) -> None:
        """A person's question; raises BusyError where too many wait."""
        if len(self._questions) >= MAX_QUESTIONS:
            self.counts.refused += 1
            raise BusyError(MAX_QUESTIONS, self._question_s * MAX_QUESTIONS)
        self.counts.questions += 1
        self._questions.append(question)

    def cancel(self, question: Question[T]) -> bool:
        """Take a question back: whether it was still waiting."""
        if question in self._questions:
            self._questions.remove(question)
            return True
        return False

    def forget(self, camera: str) -> None:
        """Drop what waits for a camera that is gone."""
        self._cameras.pop(camera, None)
        self._wanting.discard(camera)

    def expired(self, now: float) -> list[Job[T]]:
        """Windows whose deadline passed while they waited; they are dropped."""
        late = [
            job
            for camera in self._cameras.values()
            for _, job in camera.waiting.values()
            if job.expires_s <= now
        ]
        for job in late:
            del self._cameras[job.camera].waiting[job.rule_set]
            self._place(job.camera)
        self.counts.expired += len(late)
        return late

    def next(self, now: float) -> Job[T] | Question[T] | None:
        """What to start now, if anything; call again until there is nothing."""
        question = self._next_question()
        if question is not None:
            self._asking[question] = now
            return question
        if len(self._under_way) >= self.slots:
            return None
        job = self._next_job()
        if job is not None:
            self.counts.started += 1
            self._under_way[job] = now
            del self._cameras[job.camera].waiting[job.rule_set]
            self._place(job.camera)
        return job

    def finished(self, started: Job[T] | Question[T], now: float) -> float:
        """What was started has ended, however it did: the seconds that it took."""
        if isinstance(started, Question):
            took = now - self._asking.pop(started)
            self._question_s += (took - self._question_s) / 4
        else:
            begun = self._under_way.pop(started)
            took = now - begun
            self._overtaken = 0
            if (camera := self._cameras.get(started.camera)) is not None:
                share = took * max(1, self._active() / self.slots)
                camera.turn_s = max(camera.turn_s, begun) + share
                self._place(started.camera)
        if not self._under_way and not self._asking:
            self._idle_since_s = now
        return took

    def idle_s(self, now: float) -> float:
        """For how long nothing has been waiting or under way."""
        busy = self._under_way or self._asking or self._questions or self.waiting
        if busy or self._idle_since_s is None:
            self._idle_since_s = None if busy else now
        return 0.0 if self._idle_since_s is None else now - self._idle_since_s

    def _next_question(self) -> Question[T] | None:
        if not self._questions or self._asking:
            return None
        if self._overtaken >= OVERTAKEN and (self._under_way or self.waiting):
            return None
        self._overtaken += 1
        return self._questions.popleft()

    def _next_job(self) -> Job[T] | None:
        while self._by_due:
            due_s, serial, name = self._by_due[0]
            camera = self._cameras.get(name)
            if camera is not None and (camera.due_s, camera.serial) == (due_s, serial):
                found = self._best(camera)
                assert found is not None
                return found[1]
            heapq.heappop(self._by_due)
        return None

    def _place(self, name: str) -> None:
        """Something happened to a camera: find out when it should be looked at now."""
        camera = self._cameras[name]
        (self._wanting.add if camera.waiting else self._wanting.discard)(name)
        best = self._best(camera)
        due_s = None if best is None else best[0]
        if due_s == camera.due_s:
            return
        camera.due_s = due_s
        if due_s is not None:
            heapq.heappush(self._by_due, (due_s, camera.serial, name))
        if len(self._by_due) > 2 * len(self._cameras):
            self._by_due = [
                (each.due_s, each.serial, name)
                for name, each in self._cameras.items()
                if each.due_s is not None
            ]
            heapq.heapify(self._by_due)

    def _best(self, camera: _Camera[T]) -> tuple[float, Job[T]] | None:
        """What of a camera is to be looked at first, and when."""
        free = [each for each in camera.waiting.values() if self._free(each[1])]
        if not free:
            return None
        # Among a camera's own, whose turn came first; among cameras, also what they have had.
        since, job = min(free, key=_due)
        return _due((max(since, camera.turn_s), job)), job

    def _free(self, job: Job[T]) -> bool:
        """Whether the same camera and rules are not under way already."""
        return not any(
            job.camera == other.camera and job.rule_set == other.rule_set
            for other in self._under_way
        )

    def _active(self) -> int:
        """Cameras that want the engine."""
        return max(1, len(self._wanting | {job.camera for job in self._under_way}))


def _due(waiting: tuple[float, Job[T]]) -> float:
    """The moment at which a window that waits since then should be looked at."""
    since, job = waiting
    leeway = NO_DEADLINE_S if job.deadline_s is None else min(job.deadline_s, NO_DEADLINE_S)
    return since + leeway - PRIORITY_S * job.priority
