"""An engine in a child process: what kills it costs one window, and it comes back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar, Unpack

from miloco_edge.engine.child_limits import Limits
from miloco_edge.engine.child_process import COMMAND, ChildProcess
from miloco_edge.engine.child_quarantine import Quarantine
from miloco_edge.engine.child_request import Request
from miloco_edge.engine.child_wire import Message, error_from_plain, to_plain
from miloco_edge.engine.clock import Clock
from miloco_edge.engine.economy import Economy
from miloco_edge.engine.engine import LoadOptions
from miloco_edge.engine.protocol import Emit, EngineState, Pending, QuestionOptions, Seen, refused
from miloco_edge.errors import ClosedError, EngineDownError, MilocoEdgeError, QuarantinedError
from miloco_edge.types import Answer, Budget
from miloco_edge.video import Clip

log = logging.getLogger(__name__)
T = TypeVar("T")

_TICK_S = 0.2


class ChildEngine:
    """A model in a process of its own (`WindowEngine`).

    A native abort, an out-of-memory kill or a hang ends the child: what it had in hand fails with
    EngineDownError, and the next child loads at once, then after growing waits. A clip that was in
    hand twice is kept out (`Quarantine`).
    """

    slots = 1

    def __init__(
        self,
        ref: str | Path | None = None,
        *,
        limits: Limits | None = None,
        quarantine: Quarantine | None = None,
        command: Sequence[str] = COMMAND,
        **options: Unpack[LoadOptions],
    ) -> None:
        economy = options.get("economy")
        self._options = {
            "ref": None if ref is None else str(ref),
            **{k: str(v) if isinstance(v, Path) else v for k, v in options.items()},
            **({"economy": to_plain(economy)} if isinstance(economy, Economy) else {}),
        }
        self._limits = limits or Limits()
        self._quarantine = quarantine or Quarantine()
        self._command = command
        self._changed = threading.Condition()
        self._state: EngineState = "unloaded"
        self._name = ""
        self._wanted = False
        self._failure: MilocoEdgeError | None = None
        self._in_hand: dict[int, Request[Any]] = {}
        self._numbers = 0
        self._failures = 0
        self._progress_s = 0.0
        self._ceiling: int | None = None
        self._process: ChildProcess | None = None
        self._supervisor: threading.Thread | None = None
        self.restarts = 0
        """How often a child was begun after the first."""

    @property
    def name(self) -> str:
        """The model's name; empty before it was first loaded."""
        return self._name

    @property
    def state(self) -> EngineState:
        """Whether the child would answer now."""
        return self._state

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        process = self._process
        return None if process is None else process.pid

    def load(self) -> None:
        """Have the model ready. Raises what loading raised in the child, or EngineDownError."""
        with self._changed:
            self._want()
            if self._state == "down":
                self._failures = 0  # asked for by name: try now
                self._changed.notify_all()
            self._failure = None
            self._changed.wait_for(
                lambda: self._state in ("ready", "closed") or self._failure is not None
            )
            if self._state == "closed":
                raise ClosedError("expected an open engine, got one that was closed")
            if self._state != "ready" and self._failure is not None:
                raise self._failure

    def unload(self) -> None:
        """End the child once it has nothing in hand."""
        with self._changed:
            self._wanted = False
            self._changed.notify_all()

    def close(self) -> None:
        """End the child now; what it had in hand fails with ClosedError."""
        with self._changed:
            self._state = "closed"
            process = self._process
            self._changed.notify_all()
        if process is not None:
            process.kill()
        if self._supervisor is not None and self._supervisor is not threading.current_thread():
            self._supervisor.join()

    def decide(
        self,
        clip: Clip,
        rules: Sequence[str],
        *,
        budget: Budget | None = None,
    ) -> Pending[Seen]:
        """As WindowEngine.decide."""
        message = {"verb": "decide", "rules": list(rules)}
        return self._submit(message, clip, budget, Seen)

    def ask(
        self,
        clip: Clip | None,
        question: str,
        *,
        emit: Emit | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Pending[Answer]:
        """As WindowEngine.ask."""
        budget = options.pop("budget", None)
        plain: Message = {**options}
        plain["history"] = [to_plain(turn) for turn in options.get("history", ())]
        plain["stop"] = list(options.get("stop", ()))
        if (sampling := options.get("sampling")) is not None:
            plain["sampling"] = to_plain(sampling)
        message = {"verb": "ask", "question": question, "options": plain, "emit": emit is not None}
        return self._submit(message, clip, budget, Answer, emit)

    def _submit(
        self,
        message: Message,
        clip: Clip | None,
        budget: Budget | None,
        kind: type[T],
        emit: Emit | None = None,
    ) -> Pending[T]:
        clock = Clock(budget)
        if clip is not None and (cause := self._quarantine.cause(clip)) is not None:
            return refused(
                QuarantinedError(
                    f"expected a clip that the engine survives, got one that it did not: {cause}"
                )
            )
        with self._changed:
            self._want()
            if self._state == "down" and self._failure is not None:
                return refused(self._failure)
            self._numbers += 1
            request = Request(
                self._numbers, message, clip, budget or Budget(), kind, emit, Future[T](), clock
            )
            if not any(each.sent for each in self._in_hand.values()):
                self._progress_s = time.monotonic()
            self._in_hand[request.number] = request
            if self._state == "ready":
                self._send(request)
            self._changed.notify_all()
        return Pending(request.future, lambda: self._cancel(request))

    def _want(self) -> None:
        """Have a child begun if there is none. Holds the lock."""
        if self._state == "closed":
            raise ClosedError("expected an open engine, got one that was closed")
        self._wanted = True
        if self._state == "unloaded":
            self._failure = None
        if self._supervisor is None:
            self._supervisor = threading.Thread(
                target=self._supervise, name="miloco-edge-supervisor", daemon=True
            )
            self._supervisor.start()

    def _send(self, request: Request[Any]) -> None:
        """Hand a request to the child; one that is gone, or hears nothing, is ended."""
        assert self._process is not None
        request.sent = True
        try:
            self._process.channel.send(request.message(), request.clip)
        except BlockingIOError:  # it did not read for so long, and half a message is sent
            self._process.kill()
        except OSError as error:
            log.debug("the child is gone: %s", error)
        except Exception as error:  # it could not be put into a message
            del self._in_hand[request.number]
            request.fail(error)

    def _cancel(self, request: Request[Any]) -> None:
        with self._changed:
            if not request.sent:
                self._in_hand.pop(request.number, None)
                request.future.cancel()
            elif request.number in self._in_hand and self._process is not None:
                try:
                    self._process.channel.send({"cancel": request.number})
                except OSError as error:
                    log.debug("the child is gone: %s", error)

    # What follows runs in the supervisor's thread.

    def _supervise(self) -> None:
        while self._wait_until_wanted():
            failure: MilocoEdgeError | None
            try:
                failure = self._run_child()
            except OSError as error:
                failure = EngineDownError(f"a process could not be started: {error}")
            with self._changed:
                self._process = None
                if self._state == "closed":
                    break
                if failure is None:
                    self._state = "unloaded"
                    continue
                self._failures += 1
                self._failure = failure
                self._state = "down" if self._limits.wait_s(self._failures) else "loading"
                lost = self._take_in_hand()
                self._changed.notify_all()
            log.warning("%s", failure)
            self._blame(lost, failure)
        with self._changed:
            lost = self._take_in_hand()
            self._changed.notify_all()
        for request in lost:
            request.fail(ClosedError("expected an open engine, got one that was closed"))

    def _wait_until_wanted(self) -> bool:
        """Wait for a reason to begin a child, and out the time that the last failures cost."""
        with self._changed:
            began = time.monotonic()
            while self._state != "closed":
                left = began + self._limits.wait_s(self._failures) - time.monotonic()
                if self._wanted or self._in_hand:
                    if left <= 0:
                        self._state = "loading"
                        return True
                    self._changed.wait(left)
                else:
                    self._state = "unloaded"
                    self._changed.wait()
        return False

    def _run_child(self) -> MilocoEdgeError | None:
        """Run one child to its end: what it failed of, or None where it was sent away."""
        process = ChildProcess(self._command)
        with self._changed:
            self._process = process
            self.restarts += 1 if self._name else 0
            self._ceiling = self._limits.resident_bytes
        failure: MilocoEdgeError | None = None
        reason: str | None = None
        try:
            process.channel.send({**self._options})
            reason = self._listen(process)
        except MilocoEdgeError as error:  # the child said why it could not load
            failure = error
        except (EOFError, OSError):
            reason = "the child process died"
        except (ValueError, TypeError, KeyError) as error:
            reason = f"the child process talks nonsense ({type(error).__name__}: {error})"
        if reason is not None and reason != "the child process died":
            process.kill()
        cause = process.end()
        return EngineDownError(f"{reason}: {cause}") if reason is not None else failure

    def _listen(self, process: ChildProcess) -> str | None:
        """Hear the child: why it must be given up, or None where it is sent away."""
        began, heard = time.monotonic(), None  # starting Python may take longer than a beat
        ready = False
        while True:
            try:
                message, _ = process.channel.receive(_TICK_S)
                heard = time.monotonic()
            except TimeoutError:
                message = {}
            if "failed" in message:
                raise error_from_plain(message["failed"])
            if "ready" in message:
                ready = True
                self._welcome(message)
            elif "id" in message:
                self._hear(message)
            now = time.monotonic()
            silent_s = 0.0 if heard is None else now - heard
            lost = self._limits.lost(ready=ready, began_s=now - began, silent_s=silent_s)
            if lost is not None:
                return lost
            with self._changed:
                if self._state == "closed":
                    return None
                budgets = [each.budget for each in self._in_hand.values()]
                overdue = self._limits.overdue(budgets, now - self._progress_s)
                if ready and overdue is not None:
                    return overdue
                if ready and not self._in_hand and self._should_leave(message):
                    self._state = "loading"
                    return None

    def _welcome(self, message: Message) -> None:
        with self._changed:
            if self._state != "closed":
                self._state = "ready"
            self._name = message["ready"]["name"]
            self._failure = None
            self._progress_s = time.monotonic()
            for request in list(self._in_hand.values()):
                self._send(request)
            self._changed.notify_all()

    def _hear(self, message: Message) -> None:
        """A piece of an answer, or the whole."""
        with self._changed:
            self._progress_s = time.monotonic()
            request = self._in_hand.get(message["id"])
        if request is None:
            return
        if "piece" in message:
            request.hear_piece(message)
            return
        request.hear_outcome(message)  # nonsense stays in hand, and fails with the rest
        with self._changed:
            del self._in_hand[request.number]
            self._failures = 0
            if self._ceiling is None and "resident" in message:
                self._ceiling = message["resident"] + (1 << 30)

    def _should_leave(self, message: Message) -> bool:
        """Whether a child with nothing in hand is to end. Holds the lock."""
        resident = message.get("resident") or message.get("beat") or 0
        if self._ceiling is not None and resident > self._ceiling:
            log.warning("the child holds %d MiB: the next one takes over", resident >> 20)
            return True
        return not self._wanted

    def _take_in_hand(self) -> list[Request[Any]]:
        """All that was handed over. Holds the lock."""
        lost = list(self._in_hand.values())
        self._in_hand.clear()
        return lost

    def _blame(self, lost: Sequence[Request[Any]], failure: MilocoEdgeError) -> None:
        """Fail what the child had in hand, and remember whose clips it looked at."""
        for request in lost:
            if request.sent and request.clip is not None and isinstance(failure, EngineDownError):
                self._quarantine.strike(request.clip, str(failure))
            request.fail(failure)
