"""An answer while it comes."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from miloco_edge.engine.worker import Request
from miloco_edge.prompt import Piece
from miloco_edge.types import Answer


class AnswerStream:
    """The pieces of an answer as they come; `answer` is the whole once they have all come."""

    def __init__(self, request: Request[Answer], pieces: queue.SimpleQueue[Piece | None]) -> None:
        self._request, self._pieces = request, pieces

    def __iter__(self) -> Iterator[Piece]:
        """Yield pieces, each once; leaving the loop early cancels the rest."""
        finished = False
        try:
            while (piece := self._pieces.get()) is not None:
                yield piece
            finished = True
            self._pieces.put(None)  # another loop finds the end as well
            self._request.result()
        finally:
            if not finished:
                self._request.interrupt.cancel()

    def cancel(self) -> None:
        """Stop generating, from any thread; the answer so far stays available."""
        self._request.interrupt.cancel()

    @property
    def answer(self) -> Answer:
        """The whole answer; waits for it."""
        return self._request.result()
