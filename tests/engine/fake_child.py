"""A child process without a model: what it does is what the rules say, or once what a file says.

The file is the model's reference; it is gone when the deed begins.
"""

from __future__ import annotations

import ctypes
import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from miloco_edge.engine.child_main import main
from miloco_edge.engine.protocol import Pending, Seen
from miloco_edge.errors import ContextFullError, ModelNotFoundError
from miloco_edge.prompt import Piece
from miloco_edge.types import Answer, Budget, Decision, Timings, Usage
from miloco_edge.video import Clip

_hoard: list[bytearray] = []


def abort() -> None:
    os.abort()


def die() -> None:
    os._exit(3)


def hang() -> None:
    time.sleep(3600)


def hang_with_gil() -> None:
    """What native code does that never gives the GIL back."""
    ctypes.PyDLL(None).sleep(3600)


def hoard() -> None:
    """Hold 64 MiB more from now on."""
    _hoard.append(bytearray(os.urandom(1 << 20) * 64))


def out_of_memory() -> None:
    """What malloc does to ggml under a limit: it aborts where it gets nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
    try:
        _hoard.append(bytearray(1 << 34))
    except MemoryError:
        os.abort()


def refuse() -> None:
    raise ContextFullError(9, 3, hint="raise --context")


DEEDS: dict[str, Callable[[], None]] = {
    deed.__name__: deed for deed in (abort, die, hang, hang_with_gil, hoard, out_of_memory, refuse)
}


class FakeEngine:
    name = "fake"
    slots = 1
    state = "ready"

    def __init__(self, options: dict[str, Any]) -> None:
        if options["ref"] == "nothing":
            raise ModelNotFoundError("nothing", "expected a model, got nothing", hint="pull one")
        if options["ref"] == "bad":
            os.abort()
        self._told = Path(options["ref"])
        time.sleep(options.get("threads") or 0)

    def load(self) -> None:
        pass

    def unload(self) -> None:
        pass

    def close(self) -> None:
        pass

    def decide(
        self,
        clip: Clip,
        rules: Sequence[str],
        *,
        budget: Budget | None = None,
    ) -> Pending[Seen]:
        def work() -> Seen:
            if "nonsense" in rules:
                return cast(Seen, Usage())
            if self._told.is_file():
                deed = self._told.read_text()
                self._told.unlink()
                DEEDS[deed]()
            for rule in rules:
                if rule in DEEDS:
                    DEEDS[rule]()
            p_yes = float(clip.frames[-1].pixels.mean()) / 255
            decisions = [
                Decision(rule, "yes" if p_yes > 0.5 else "no", p_yes, 0.0, "logits")
                for rule in rules
            ]
            return Seen(tuple(decisions), Usage(visual_tokens=len(clip.frames)), Timings())

        return _started(work)

    def ask(self, clip: Clip | None, question: str, *, emit: Any = None, **_: Any) -> Pending[Any]:
        stop = threading.Event()

        def work() -> Answer:
            if question == "wait":
                stop.wait()
                return Answer(question, "", None, "cancelled", Usage(), Timings())
            if question in DEEDS:
                DEEDS[question]()
            if emit is not None:
                emit(Piece("he"))
                emit(Piece("llo"))
            return Answer(question, "hello", None, "stop", Usage(), Timings(total_s=1))

        return _started(work, stop.set)


def _started(work: Callable[[], Any], cancel: Callable[[], None] = lambda: None) -> Pending[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return Pending(future, cancel)


if __name__ == "__main__":
    main(FakeEngine)
