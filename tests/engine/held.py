"""What an engine holds, to see that all of it is given back, and how often it decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import llama_cpp
import pytest

from miloco_edge import Clip, Engine
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.llama import Context, Run


def held(engine: Engine) -> tuple[int, int, list[int]]:
    """Cells in use, free sequences, and free ones that are not empty."""
    context = engine._loaded.context

    def look() -> tuple[int, int, list[int]]:
        left = [
            sequence
            for sequence in context._free_sequences
            if llama_cpp.llama_memory_seq_pos_max(context._memory, sequence) != -1
        ]
        return sum(context._own_cells.values()), context.free_sequences, left

    return engine._worker.submit(look, Interrupt()).result()


@pytest.fixture(scope="module")
def forgotten(engine: Engine) -> Iterator[None]:
    """Leave nothing that is kept to other modules' tests: prompts take cells from them."""
    yield
    engine.forget()


@pytest.fixture
def everything_is_given_back(engine: Engine, clip: Clip) -> Iterator[None]:
    engine.look(clip).close()  # openings are kept
    engine.look(clip, smart_home=True).close()
    engine.look().close()
    cells, sequences, left = held(engine)
    yield
    after = held(engine)
    # Openings may have given way to what was asked; nothing else may be held.
    assert after[0] <= cells and after[1] >= sequences
    assert left == after[2] == []


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each decode from now on has had."""
    sizes: list[int] = []
    real = Context.decode_runs

    def count(self: Context, runs: Sequence[Run]) -> list[int]:
        sizes.append(len(runs))
        return real(self, runs)

    monkeypatch.setattr(Context, "decode_runs", count)
    return sizes
