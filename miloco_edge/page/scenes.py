"""The looks that visitors come back to, for as long as the KV cache holds them all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from miloco_edge.engine import Engine, Scene
from miloco_edge.errors import ContextFullError
from miloco_edge.page.view import View

T = TypeVar("T")


class Scenes:
    """One scene a visitor, so that the next question about it costs its own tokens alone.

    Where cells run out, the scene that was asked least recently gives way; its visitor's next
    question looks again. Any thread may call.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._kept: OrderedDict[str, tuple[View, Scene]] = OrderedDict()
        self._in_use: set[str] = set()
        self._lock = threading.Lock()

    def find(self, visitor: str, view: View) -> Scene | None:
        """The visitor's scene, if it is of this view; one of another view is closed."""
        with self._lock:
            kept = self._kept.get(visitor)
            if kept is not None and kept[0] == view:
                self._kept.move_to_end(visitor)
                return kept[1]
        self.drop(visitor)
        return None

    def keep(self, visitor: str, view: View, scene: Scene) -> None:
        """Keep a scene for the visitor's next question."""
        self.drop(visitor)
        with self._lock:
            self._kept[visitor] = view, scene

    def drop(self, visitor: str) -> None:
        """Close what is kept for a visitor, if anything is."""
        with self._lock:
            kept = self._kept.pop(visitor, None)
        if kept is not None:
            kept[1].close()

    @contextmanager
    def in_use(self, visitor: str) -> Iterator[None]:
        """Inside, the visitor's scene gives way to nobody."""
        with self._lock:
            self._in_use.add(visitor)
        try:
            yield
        finally:
            with self._lock:
                self._in_use.discard(visitor)

    def with_room(self, work: Callable[[], T]) -> T:
        """Do what needs cells; idle scenes give way until there are enough.

        Raises ContextFullError where there are too few without any of them.
        """
        while True:
            try:
                return work()
            except ContextFullError as error:
                if not self.make_room_after(error):
                    raise

    def make_room_after(self, error: BaseException) -> bool:
        """Whether to try again what failed: it lacked cells, and an idle scene gave its own."""
        if not isinstance(error, ContextFullError):
            return False
        with self._lock:
            idle = next((visitor for visitor in self._kept if visitor not in self._in_use), None)
        if idle is None:
            return False
        self.drop(idle)
        return True

    def close(self) -> None:
        """Close all scenes."""
        for visitor in list(self._kept):
            self.drop(visitor)
