"""From a request in no dialect to an answer: decode, wait for a turn, ask, give on as it comes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from miloco_edge import Piece
from miloco_edge.engine.protocol import EngineState, Pending, Seen, WindowEngine
from miloco_edge.hub.hub import Hub
from miloco_edge.serve.conversation import Conversation
from miloco_edge.serve.decoder import Decoders
from miloco_edge.serve.fetch import Fetcher
from miloco_edge.serve.media import Medium, Remote
from miloco_edge.serve.metrics import Metrics
from miloco_edge.serve.refusal import Refusal, bad_request, busy, loading, out_of_time
from miloco_edge.serve.settings import Limits, ModelFacts
from miloco_edge.serve.turns import Turns
from miloco_edge.types import Answer, Budget, Layout, Sampling
from miloco_edge.video import Clip

log = logging.getLogger(__name__)
T = TypeVar("T")

_STOPPING_S = 10.0
"""How long the next in line waits for one that was cancelled to have stopped."""


@dataclass(frozen=True)
class Wanted:
    """A request as the engine is to be asked it, whatever dialect it came in."""

    conversation: Conversation
    sampling: Sampling
    answer_tokens: int
    think: bool = False
    thinking_tokens: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    layout: Layout = "images"
    fps: float | None = None
    visual_tokens: int | None = None
    priority: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Serving:
    """All that routes share."""

    engine: WindowEngine
    facts: ModelFacts
    limits: Limits
    turns: Turns
    decoders: Decoders
    fetcher: Fetcher
    metrics: Metrics
    hub: Hub | None = None
    clips: set[Clip] = field(default_factory=set)
    """Decoded for requests that are not answered yet."""
    noted: set[str] = field(default_factory=set)
    """What was logged once and need not be again."""
    at_work: set[asyncio.Task[None]] = field(default_factory=set)
    """Answers under way, some of which nobody waits for any more."""
    listeners: set[asyncio.Task[None]] = field(default_factory=set)
    """Connections that follow events."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the first load has ended, well or not."""

    @property
    def state(self) -> EngineState:
        """The engine's, but that one which is about to load is loading."""
        state = self.engine.state
        return "loading" if state == "unloaded" and not self.begun.is_set() else state

    def note(self, what: str) -> None:
        """Log once."""
        if what not in self.noted:
            self.noted.add(what)
            log.warning("%s", what)

    def check_ready(self) -> None:
        """Raise Refusal where the model is not there to answer."""
        if self.state == "loading":
            raise loading()
        if self.state == "closed":
            raise Refusal(503, "shutting_down", "the server is shutting down", retry_after_s=10)

    def seconds(self, wanted: float | None) -> float:
        """How long a request may take."""
        return min(wanted or self.limits.seconds, self.limits.seconds)


async def answer(serving: Serving, wanted: Wanted) -> AsyncGenerator[Piece | Answer]:
    """The pieces of an answer as they come, and at last the whole. Raises as the engine does.

    Leaving early stops it. The work is a task of its own, which keeps its turn until the engine
    has stopped, however suddenly the one who listens is gone.
    """
    serving.check_ready()
    parts: asyncio.Queue[Piece | Answer | None] = asyncio.Queue()
    work = asyncio.create_task(_answer(serving, wanted, parts.put_nowait))
    serving.at_work.add(work)
    work.add_done_callback(serving.at_work.discard)
    work.add_done_callback(lambda _: parts.put_nowait(None))
    try:
        while (part := await parts.get()) is not None:
            yield part
        await work
    finally:
        work.cancel()


async def _answer(serving: Serving, wanted: Wanted, put: Callable[[Piece | Answer], None]) -> None:
    began = time.monotonic()
    end = began + serving.seconds(wanted.seconds)
    media = wanted.conversation.media
    async with _decoded(serving, media, wanted.layout, wanted.fps, end) as clip:
        await _ask(serving, wanted, clip, put, began, end)


async def _ask(
    serving: Serving,
    wanted: Wanted,
    clip: Clip | None,
    put: Callable[[Piece | Answer], None],
    began: float,
    end: float,
) -> None:
    loop = asyncio.get_running_loop()
    heard: list[float] = []

    def hear(piece: Piece) -> None:
        if not heard:
            heard.append(time.monotonic())
            serving.metrics.first_token.observe(heard[0] - began)
        put(piece)

    def start() -> Pending[Answer]:
        return serving.engine.ask(
            clip,
            wanted.conversation.question,
            emit=lambda piece: _soon(loop, hear, piece),
            system=wanted.conversation.system,
            history=wanted.conversation.history,
            think=wanted.think,
            sampling=wanted.sampling,
            top_logprobs=wanted.top_logprobs,
            stop=wanted.stop,
            budget=Budget(
                answer_tokens=wanted.answer_tokens,
                thinking_tokens=wanted.thinking_tokens,
                visual_tokens=wanted.visual_tokens,
                seconds=max(end - time.monotonic(), 0.001),
            ),
        )

    async with serving.turns.turn(wanted.priority, end - time.monotonic()) as waited:
        serving.metrics.queue.observe(waited)
        async with _under_way(start) as pending:
            found = await _outcome(pending)
    serving.metrics.answered(found)
    ours = time.monotonic() - began - waited - (found.timings.total_s or 0.0)
    serving.metrics.overhead.observe(max(ours, 0.0))
    _check(found)
    put(found)


def _check(found: Answer) -> None:
    """Raise Refusal for an answer that says nothing because it could not."""
    if found.text or found.thinking:
        return
    if found.finish_reason == "deadline":
        raise out_of_time()
    if found.finish_reason == "cancelled":
        raise Refusal(503, "cancelled", "the request was stopped", retry_after_s=5)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[Piece], None], piece: Piece) -> None:
    with suppress(RuntimeError):  # a loop that was closed listens no more
        loop.call_soon_threadsafe(call, piece)


async def decide(
    serving: Serving,
    media: Sequence[Medium | Remote],
    rules: Sequence[str],
    *,
    layout: Layout,
    fps: float | None,
    visual_tokens: int | None,
    priority: int,
    seconds: float | None,
) -> Seen:
    """Whether each rule holds in what the media show. Raises as the engine does."""
    serving.check_ready()
    end = time.monotonic() + serving.seconds(seconds)
    if not media:
        raise bad_request("no_media", "expected pictures or a video to decide on", "media")
    async with (
        _decoded(serving, media, layout, fps, end) as clip,
        serving.turns.turn(priority, end - time.monotonic()) as waited,
    ):
        assert clip is not None
        serving.metrics.queue.observe(waited)
        budget = Budget(visual_tokens=visual_tokens, seconds=max(end - time.monotonic(), 0.001))
        async with _under_way(
            lambda: serving.engine.decide(clip, list(rules), budget=budget)
        ) as pending:
            seen = await _outcome(pending)
    serving.metrics.used(seen.usage)
    for decision in seen.decisions:
        serving.metrics.decisions.labels(decision.answer).inc()
    return seen


@asynccontextmanager
async def _decoded(
    serving: Serving,
    media: Sequence[Medium | Remote],
    layout: Layout,
    fps: float | None,
    end: float,
) -> AsyncIterator[Clip | None]:
    """The clip of a request until it is answered; Refusal where those that wait take the memory."""
    async with _in_time(end):
        clip = await media_clip(serving, media, layout, fps)
    if clip is None:
        yield None
        return
    held = sum(frame.pixels.nbytes for each in (*serving.clips, clip) for frame in each.frames)
    if held > serving.limits.waiting_bytes:
        raise busy(serving.turns.retry_after_s())
    serving.clips.add(clip)
    try:
        yield clip
    finally:
        serving.clips.discard(clip)


@asynccontextmanager
async def _in_time(end: float) -> AsyncIterator[None]:
    """What is left early once the request's time is over."""
    try:
        async with asyncio.timeout(end - time.monotonic()):
            yield
    except TimeoutError:
        raise out_of_time() from None


async def media_clip(
    serving: Serving, media: Sequence[Medium | Remote], layout: Layout, fps: float | None
) -> Clip | None:
    """The clip that a request's media make; None without any."""
    if not media:
        return None
    if len(media) > serving.limits.media:
        raise Refusal(
            413, "media_too_many", f"expected at most {serving.limits.media} pictures and videos"
        )
    began = time.monotonic()
    fetched = [
        await serving.fetcher.fetch(each) if isinstance(each, Remote) else each for each in media
    ]
    clip = await serving.decoders.clip(fetched, layout, fps)
    serving.metrics.decode.observe(time.monotonic() - began)
    return replace(clip, source="request")


@asynccontextmanager
async def _under_way(start: Callable[[], Pending[T]]) -> AsyncIterator[Pending[T]]:
    """Work of the engine that is stopped, and has stopped, when the block is left early."""
    # Handing frames over copies them, which is no work for the event loop.
    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        pending = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_cancel_started)
        raise
    try:
        yield pending
    finally:
        if not pending.future.done():
            pending.cancel()
            ended = asyncio.ensure_future(asyncio.wrap_future(pending.future))
            await asyncio.wait([ended], timeout=_STOPPING_S)
            if ended.done() and not ended.cancelled():
                ended.exception()  # whatever became of it, nobody waits for it


async def _outcome(pending: Pending[T]) -> T:
    """What it comes to. Shielded: a future that is cancelled from here would not be stopped."""
    return await asyncio.shield(asyncio.wrap_future(pending.future))


def _cancel_started(starting: asyncio.Future[Pending[T]]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().cancel()
