"""An engine that says what a test wants it to, and remembers what it was asked."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from miloco_edge import Answer, Budget, Clip, Piece, Timings, Usage
from miloco_edge.engine.protocol import EngineState, Pending, Seen
from miloco_edge.serve.app import create_app
from miloco_edge.serve.settings import ModelFacts
from miloco_edge.types import Decision, TokenLogprob, TopToken

FACTS = ModelFacts(
    "miloco-7b", ("MiMo-VL-Miloco-7B:Q4_0",), 8192, "Q4_0", 5_700_000_000, "ab" * 32, 1_764_000_000
)
USAGE = Usage(
    prompt_tokens=120, visual_tokens=72, cached_tokens=20, thinking_tokens=3, completion_tokens=9
)
TIMINGS = Timings(
    video_s=0.01, vision_s=0.5, prefill_s=0.2, first_token_s=0.8, generate_s=0.3, total_s=1.1
)


@dataclass
class Fake:
    """A WindowEngine without a model."""

    says: Sequence[str | Piece] = ("A person ", "is reading.")
    fails: Exception | None = None
    hold: threading.Event | None = None
    """Where set, answers wait for it after their first piece."""
    name: str = "miloco-7b"
    state: EngineState = "ready"
    slots: int = 1
    asked: list[dict[str, Any]] = field(default_factory=list)
    clips: list[Clip | None] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    finish_reason: Any = "stop"
    gives_logprobs: bool = True
    """Whether it knows them where they are asked for."""

    def load(self) -> None:
        pass

    def unload(self) -> None:
        self.state = "unloaded"

    def close(self) -> None:
        self.state = "closed"

    def decide(
        self, clip: Clip, rules: Sequence[str], *, budget: Budget | None = None
    ) -> Pending[Seen]:
        self.clips.append(clip)
        self.asked.append({"rules": rules, "budget": budget})
        future: Future[Seen] = Future()
        if self.fails is not None:
            future.set_exception(self.fails)
        else:
            decisions = [
                Decision(rule, "yes" if "yes" in rule else "no", 0.9, 0.01, "logits")
                for rule in rules
            ]
            future.set_result(Seen(tuple(decisions), USAGE, TIMINGS))
        return Pending(future, lambda: None)

    def ask(
        self, clip: Clip | None, question: str, *, emit: Any = None, **options: Any
    ) -> Pending[Answer]:
        self.clips.append(clip)
        self.asked.append({"question": question, **options})
        future: Future[Answer] = Future()
        stop = threading.Event()

        def speak() -> None:
            if self.fails is not None:
                future.set_exception(self.fails)
                return
            pieces = [p if isinstance(p, Piece) else Piece(p) for p in self.says]
            reason = self.finish_reason
            for i, piece in enumerate(pieces):
                if i == 1 and self.hold is not None:
                    while not self.hold.wait(0.01) and not stop.is_set():
                        pass
                if stop.is_set():
                    reason = "cancelled"
                    break
                if emit is not None:
                    emit(piece)
            text = "".join(str(p) for p in pieces if not p.thinking)
            thought = "".join(str(p) for p in pieces if p.thinking) or None
            logprobs = None
            if options.get("top_logprobs") and self.gives_logprobs:
                top = (TopToken("yes", 1, -0.1), TopToken("no", 2, -2.0))
                logprobs = (
                    TokenLogprob("yes", 1, -0.1, top),
                    TokenLogprob("<|im_end|>", 3, -0.01, top),
                )
            answer = Answer(question, text, thought, reason, USAGE, TIMINGS, logprobs=logprobs)
            if future.set_running_or_notify_cancel():
                future.set_result(answer)

        def cancel() -> None:
            self.cancelled.append(question)
            stop.set()

        threading.Thread(target=speak, daemon=True).start()
        return Pending(future, cancel)


@contextmanager
def served(engine: Any, **options: Any) -> Iterator[TestClient]:
    """A client of a server over an engine, in this process."""
    app = create_app(engine, options.pop("facts", FACTS), **options)
    with TestClient(app, base_url="http://127.0.0.1:8001", raise_server_exceptions=True) as client:
        yield client


def jpeg(width: int = 56, height: int = 56, shade: int = 0) -> str:
    """A small picture as base64."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([(x * 4 + shade) % 256, (y * 4) % 256, (x + y) % 256], -1).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG")
    return base64.b64encode(held.getvalue()).decode()


def picture(**options: Any) -> dict[str, Any]:
    """An image_url part."""
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/jpeg;base64,{jpeg(**options)}"},
    }


def user(*parts: str | dict[str, Any]) -> dict[str, Any]:
    """A message of the user."""
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": "user", "content": content}
