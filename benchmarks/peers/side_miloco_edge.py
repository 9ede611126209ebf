"""miloco-edge in exact mode: every look begins from nothing, frames as the video they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import llama_cpp
from llama_cpp import mtmd_cpp

from benchmarks.peers import child
from benchmarks.peers.request import Reading, Request
from miloco_edge import Budget, Clip, Engine, Sampling


class Native:
    """Seconds spent inside llama.cpp; the rest of an answer's time is Python's and numpy's."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def watch(self) -> None:
        """Time every call of llama.cpp's C API from here on."""
        for module in (llama_cpp, mtmd_cpp):
            for name in dir(module):
                call = getattr(module, name)
                if name.startswith(("llama_", "mtmd_")) and _is_function(call):
                    setattr(module, name, self._timed(call))

    @contextmanager
    def counted(self) -> Iterator[Callable[[], float]]:
        """Yields what tells the seconds since the block began."""
        before = self.seconds
        yield lambda: self.seconds - before

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._depth += 1
            began = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                self._depth -= 1
                if not self._depth:  # wrappers of llama-cpp-python call each other
                    self.seconds += time.perf_counter() - began

        return timed


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type)


def read_clip(request: Request) -> Clip | None:
    """The frames as a clip."""
    if not request.frames:
        return None
    pictures = [child.read_picture(path) for path in request.frames]
    return Clip.from_frames(pictures, fps=request.fps)


def main() -> None:
    """Load and answer."""
    config = child.config()
    native = Native()
    native.watch()
    engine = Engine.load(
        config["model"],
        threads=config["threads"],
        context=config["context"],
        batch=config.get("batch"),
        profile=config.get("profile", False),
    )

    def answer(request: Request) -> Reading:
        clip = read_clip(request)
        engine.forget()
        with native.counted() as spent:
            began = time.perf_counter()
            with engine.look(clip, system=request.system) as scene:
                asked = time.perf_counter()
                found = scene.ask(
                    request.question,
                    budget=Budget(answer_tokens=request.tokens),
                    sampling=Sampling(),
                )
            total = time.perf_counter() - began
            inside = spent()
        first = found.timings.first_token_s
        looked = scene.timings
        return Reading(
            first_token_s=total if first is None else asked - began + first,
            total_s=total,
            answer=found.text,
            prompt_tokens=found.usage.prompt_tokens,
            answer_tokens=found.usage.completion_tokens,
            own={
                "vision_s": looked.vision_s,
                "prefill_s": looked.prefill_s,
                "prefill_tokens": scene.usage.prompt_tokens,
                "question_s": found.timings.prefill_s,
                "generate_s": found.timings.generate_s,
                "visual_tokens": found.usage.visual_tokens,
                "cached_tokens": found.usage.cached_tokens,
                "python_share": 1 - inside / total,
            },
        )

    settings = {name: str(value) for name, value in vars(engine.settings).items()}
    child.serve(answer, {"settings": settings, "load_s": engine.load_s})


if __name__ == "__main__":
    main()
