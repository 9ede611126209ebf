"""A person's question, from the call to the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from miloco_edge.engine.protocol import Pending, WindowEngine
from miloco_edge.errors import NotFoundError
from miloco_edge.hub.cameras import Cameras
from miloco_edge.hub.scheduler import Question, Scheduler
from miloco_edge.hub.settings import CameraSettings
from miloco_edge.hub.watch import Watch
from miloco_edge.types import Answer
from miloco_edge.video import Clip


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked of which camera, and who waits for the answer."""

    camera: str | None
    question: str
    options: dict[str, Any]
    """As Scene.ask's, and `emit`."""
    future: Future[Answer] = field(default_factory=Future)
    stop: list[Callable[[], None]] = field(default_factory=list)
    """How to cancel it, once it is under way."""

    def begin(self, engine: WindowEngine, clip: Clip | None) -> Pending[Answer]:
        """Hand it to the engine."""
        pending = engine.ask(clip, self.question, **self.options)
        self.stop.append(pending.cancel)
        return pending

    def end(self, answer: Answer | None, error: BaseException | None) -> None:
        """Tell who waits; nobody may wait any more, or have been told that the hub is closed."""
        with suppress(InvalidStateError):
            if error is not None:
                self.future.set_exception(error)
            elif answer is not None:
                self.future.set_result(answer)


def put(
    asked: Asked, scheduler: Scheduler[Any], inbox: Callable[[Callable[[], None]], None]
) -> Pending[Answer]:
    """Queue a question; the scheduler is only touched by what goes through `inbox`."""
    queued = Question[Any](asked)

    def queue() -> None:
        try:
            scheduler.ask(queued)
        except Exception as error:
            asked.end(None, error)

    def cancel() -> None:
        if scheduler.cancel(queued):
            asked.future.cancel()
        for stop in asked.stop:
            stop()

    inbox(queue)
    return Pending(asked.future, lambda: inbox(cancel))


def shown(
    camera: str | None, settings: Mapping[str, CameraSettings], cameras: Cameras, now: float
) -> Clip | None:
    """What a camera shows now; nothing where none is named.

    Raises NotFoundError, also where what it showed last is no longer how things are.
    """
    if camera is None:
        return None
    feeds = cameras.feeds
    if camera not in feeds:
        raise NotFoundError(f"expected a camera of {', '.join(feeds)}, got {camera}")
    watch, status = Watch(settings[camera], None, ()), feeds[camera].status
    # A folder's newest picture may be old and right; a camera's is not.
    past = settings[camera].source.live and watch.blind(status, cameras.began_s[camera], now)
    window = None if past else watch.cut(feeds[camera].frames())
    if window is None:
        why = f" that are new: it is {past}" if past else ""
        raise NotFoundError(
            f"expected frames of camera {camera}, got none{why}",
            hint=status.error,
        )
    return window.clip()
