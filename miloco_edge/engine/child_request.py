"""What was handed to the child and is not answered yet."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from miloco_edge.engine.child_wire import Message, error_from_plain, from_plain, to_plain
from miloco_edge.engine.clock import Clock
from miloco_edge.engine.protocol import Emit
from miloco_edge.prompt import Piece
from miloco_edge.types import Budget
from miloco_edge.video import Clip

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(eq=False)
class Request(Generic[T]):
    """One window or question, from the call to its outcome."""

    number: int
    verb: Message
    """The verb and what it takes, but the clip and the budget."""
    clip: Clip | None
    budget: Budget
    kind: type[T]
    emit: Emit | None
    future: Future[T]
    clock: Clock
    sent: bool = False

    def message(self) -> Message:
        """What the child is told now: waiting has cost some of the seconds."""
        return {**self.verb, "id": self.number, "budget": to_plain(self.clock.left())}

    def hear_piece(self, message: Message) -> None:
        """Give a piece of the answer on."""
        if self.emit is None:
            return
        try:
            self.emit(from_plain(Piece, message["piece"]))
        except Exception:  # the caller's own code; the answer goes on
            log.exception("a piece of an answer could not be given on")

    def hear_outcome(self, message: Message) -> None:
        """Take the answer, or what became of it; TypeError and KeyError for what is neither."""
        if "error" in message:
            self.fail(error_from_plain(message["error"]))
            return
        result = from_plain(self.kind, message["result"])
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """End without an answer."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
