"""One thread owns a model; whoever asks or leaves does not get stuck on it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from miloco_edge import Engine
from miloco_edge.engine import load as loading
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.worker import Worker
from miloco_edge.errors import ClosedError
from miloco_edge.llama import Context, TextModel, VisionEncoder


def test_a_scene_is_given_back_without_a_lock(engine: Engine) -> None:
    """The garbage collector may give it back while its thread holds the executor's lock."""
    context = engine._loaded.context
    engine.look().close()
    scene = engine.look()
    free = context.free_sequences
    with engine._worker._executor._shutdown_lock:
        thread = threading.Thread(target=scene.close)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    engine._worker.submit(lambda: None, Interrupt()).result()
    assert context.free_sequences == free + 1


def test_it_is_freed_once_by_however_many_threads(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, real, freed = Engine.load(pair, threads=1, context=512), llama_cpp.llama_free, []

    def slow(handle: Any) -> None:
        freed.append(handle)
        time.sleep(0.1)
        if len(freed) == 1:
            real(handle)

    monkeypatch.setattr(llama_cpp, "llama_free", slow)
    threads = [threading.Thread(target=engine.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(freed) == 1


@pytest.mark.parametrize("urgent", [False, True])
def test_closed_while_something_is_handed_over(urgent: bool) -> None:
    worker = Worker()
    worker._executor.shutdown()  # between the look at `_closed` and the executor
    with pytest.raises(ClosedError):
        worker.submit(lambda: None, Interrupt(), urgent=urgent)
    assert not worker._live


def test_a_load_that_fails_late_frees_what_it_had(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[str] = []

    def watch(kind: Any) -> None:
        real = kind.close

        def close(self: Any) -> None:
            freed.append(kind.__name__)
            real(self)

        monkeypatch.setattr(kind, "close", close)

    for kind in (TextModel, Context, VisionEncoder):
        watch(kind)

    def refuse(template: str) -> None:
        raise ValueError("expected a chat template, got something else")

    monkeypatch.setattr(loading, "chat_facts", refuse)
    with pytest.raises(ValueError, match="chat template"):
        Engine.load(pair, threads=1, context=512, profile=False)
    assert freed == ["VisionEncoder", "Context", "TextModel"]
