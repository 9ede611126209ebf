"""The visitors of the page, each with a conversation, a watch and what their webcam sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from miloco_edge.errors import MediaError
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.view import Film, Media
from miloco_edge.page.visit import Visit
from miloco_edge.page.watch import FPS, Judged, Watch, live, windows
from miloco_edge.page.words import Language, word
from miloco_edge.video import Clip

Source = Literal["clip", "pictures", "live", "camera", "nothing"]


@dataclass
class Session:
    """One visitor. A reload of the page is another."""

    visit: Visit
    watch: Watch
    film: Film = field(default_factory=Film)
    course: tuple[Judged, ...] = ()
    """The newest watch, as far as it has come."""

    def leave(self) -> None:
        """Stop everything of theirs and forget it."""
        self.watch.stop()
        self.visit.leave()


class Sessions:
    """All visitors, by the page's own names for them."""

    def __init__(self, scenes: Scenes) -> None:
        self._scenes = scenes
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def of(self, visitor: str) -> Session:
        """The visitor's session; a new one for a new visitor."""
        with self._lock:
            if visitor not in self._sessions:
                self._sessions[visitor] = Session(Visit(visitor, self._scenes), Watch(self._scenes))
            return self._sessions[visitor]

    def watch(self, visitor: str) -> Watch:
        """A new watch for the visitor; the one before is stopped."""
        session = self.of(visitor)
        session.watch.stop()
        session.watch, session.course = Watch(self._scenes), ()
        return session.watch

    def leave(self, visitor: str) -> None:
        """The visitor closed the page."""
        with self._lock:
            session = self._sessions.pop(visitor, None)
        if session is not None:
            session.leave()

    def close(self) -> None:
        """Nobody is left."""
        for visitor in list(self._sessions):
            self.leave(visitor)


@dataclass(frozen=True)
class Given:
    """What the controls hold that say what to look at."""

    source: Source
    clip: str | None
    pictures: Sequence[str]
    camera: str | None
    """One of those that the page's owner named."""
    language: Language

    def media(self, film: Film, frames: int) -> Media | None:
        """What a question is about; None for a conversation without pictures.

        Raises MediaError where the chosen source has nothing to show.
        """
        match self.source:
            case "nothing":
                return None
            case "clip" if self.clip:
                return Media((Path(self.clip),))
            case "pictures" if self.pictures:
                return Media(tuple(map(Path, self.pictures)), pictures=True)
            case "camera" if self.camera is not None:
                return Media(camera=self.camera, moment=time.monotonic())
            case "live" if (window := film.window(frames)) is not None:
                return Media(window=window)
        raise MediaError(self.source, word("no_media", self.language))

    @property
    def moving(self) -> bool:
        """Whether the source is a camera, of which a still picture is a fault."""
        return self.source in ("live", "camera")

    def windows(self, session: Session, seconds: float) -> Iterator[Clip]:
        """What rules are judged on, window by window. Raises as `media`."""
        frames = max(2, round(seconds * FPS / 2) * 2)
        if self.source == "live":
            return live(lambda: session.film.window(frames), session.watch.stopped)
        media = self.media(session.film, frames)
        if media is None:
            raise MediaError(self.source, word("no_media", self.language))
        if media.camera is not None:
            return _camera(media, frames, seconds, session.watch.stopped)
        if media.pictures:
            return iter(windows(media.read(len(media.paths)), seconds))
        return iter(windows(Clip.from_file(media.paths[0], fps=FPS), seconds))


def _camera(media: Media, frames: int, seconds: float, stop: threading.Event) -> Iterator[Clip]:
    while not stop.is_set():
        yield media.read(frames, seconds)
