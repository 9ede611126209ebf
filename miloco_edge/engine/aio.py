"""The engine's verbs as coroutines, for a hub that runs an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, Unpack

from miloco_edge.engine.answer import AskOptions
from miloco_edge.engine.decide import DecideOptions, HasText
from miloco_edge.engine.engine import Engine, LoadOptions, LookOptions
from miloco_edge.engine.scene import Scene
from miloco_edge.engine.worker import Request
from miloco_edge.prompt.thinking import Piece
from miloco_edge.types import Answer, Decision
from miloco_edge.video import Clip

T = TypeVar("T")


class AsyncScene:
    """As Scene; cancelling the task that waits for an answer stops the answer."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    async def __aenter__(self) -> AsyncScene:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """As Scene.ask."""
        return await _outcome(self.scene.start_ask(question, **options))

    async def ask_many(
        self, questions: Sequence[str], **options: Unpack[AskOptions]
    ) -> list[Answer]:
        """As Scene.ask_many."""
        return await _outcome(self.scene.start_ask_many(questions, **options))

    async def stream(self, question: str, **options: Unpack[AskOptions]) -> AsyncIterator[Piece]:
        """As Scene.stream."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

        def emit(piece: Piece | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        request = self.scene.start_ask(question, emit=emit, **options)
        request.future.add_done_callback(lambda _: emit(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await _outcome(request)
        finally:
            request.interrupt.cancel()

    async def decide(
        self, rules: Sequence[str | HasText], **options: Unpack[DecideOptions]
    ) -> list[Decision]:
        """As Scene.decide."""
        return list((await _outcome(self.scene.start_decide(rules, **options))).decisions)

    async def close(self) -> None:
        """As Scene.close."""
        self.scene.close()


class AsyncEngine:
    """As Engine. Nothing here blocks the event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    async def load(
        cls, ref: str | Path | None = None, **options: Unpack[LoadOptions]
    ) -> AsyncEngine:
        """As Engine.load; what was loaded for a task that was cancelled meanwhile is freed."""
        pool = ThreadPoolExecutor(1, "miloco-edge-load")
        loading = pool.submit(Engine.load, ref, **options)
        pool.shutdown(wait=False)
        try:
            return cls(await asyncio.wrap_future(loading))
        except asyncio.CancelledError:
            loading.add_done_callback(_free)
            raise

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def look(self, clip: Clip | None = None, **options: Unpack[LookOptions]) -> AsyncScene:
        """As Engine.look."""
        return AsyncScene(await _outcome(self.engine.start_look(clip, **options)))

    async def close(self) -> None:
        """As Engine.close."""
        await asyncio.to_thread(self.engine.close)


def _free(loading: Future[Engine]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()


async def _outcome(request: Request[T]) -> T:
    try:
        return await asyncio.wrap_future(request.future)
    except asyncio.CancelledError:
        request.interrupt.cancel()
        raise
