"""The engine as a hub knows it: whole windows in, decisions and answers out.

Three things speak it: a model in this process (`LocalEngine`), one in a child process that may die
(`ChildEngine`), and one behind an OpenAI-compatible server (`RemoteEngine`). `Failover` makes one
of several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, Unpack

from miloco_edge.engine.scene import AskOptions
from miloco_edge.prompt import Piece
from miloco_edge.types import Answer, Budget, Decision, Degraded, Timings, Usage
from miloco_edge.video import Clip

T = TypeVar("T")

EngineState = Literal["unloaded", "loading", "ready", "down", "closed"]
Emit = Callable[[Piece], None]


@dataclass(frozen=True)
class Seen:
    """What one look at a window gave: a decision for each rule, in their order."""

    decisions: tuple[Decision, ...]
    usage: Usage
    timings: Timings
    degraded: Degraded | None = None


class QuestionOptions(AskOptions, total=False):
    """How to look and answer."""

    system: str | None
    """System prompt; the model's own by default."""


@dataclass(frozen=True)
class Pending(Generic[T]):
    """Work that was handed over: its outcome to come, and the way to stop it."""

    future: Future[T]
    cancel: Callable[[], None]
    """Ask it to stop, from any thread; what has ended is left alone."""

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome; leaving early (Ctrl-C, TimeoutError) cancels the work."""
        try:
            return self.future.result(timeout)
        except BaseException:
            self.cancel()
            raise


def refused(error: Exception) -> Pending[Any]:
    """Work that failed before it was begun."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return Pending(future, lambda: None)


class WindowEngine(Protocol):
    """What takes windows. Every verb may be called from any thread, and none blocks but `load`.

    A future ends with EngineDownError where the process or server that holds the model went away,
    with QuarantinedError for a clip that has killed it before, else as Engine's verbs do.
    """

    @property
    def name(self) -> str:
        """The model, as events name it."""
        ...

    @property
    def state(self) -> EngineState:
        """Whether it would answer now. An unloaded one loads when it is asked."""
        ...

    @property
    def slots(self) -> int:
        """Windows it takes at once; a question may come on top of them and overtakes."""
        ...

    def decide(
        self,
        clip: Clip,
        rules: Sequence[str],
        *,
        budget: Budget | None = None,
    ) -> Pending[Seen]:
        """Look at the clip once and decide every rule.

        The budget's visual tokens and seconds cover all of it. A window that shows nothing (black,
        covered) is unknown; whether a camera is frozen is for who has its frames of a longer time.
        """
        ...

    def ask(
        self,
        clip: Clip | None,
        question: str,
        *,
        emit: Emit | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Pending[Answer]:
        """Answer a person's question; it overtakes windows between two slices of their batches.

        The budget's visual tokens and seconds cover the look as well. `emit` gets the pieces as
        they come, in a thread of the engine's.
        """
        ...

    def load(self) -> None:
        """Have the model ready; waits for it. Raises what loading raises."""
        ...

    def unload(self) -> None:
        """Give its memory back; the next request loads it again."""
        ...

    def close(self) -> None:
        """Stop everything, within a second; a second call does nothing."""
        ...
