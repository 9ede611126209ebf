"""A clip file and a visitor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miloco_edge import Engine
from miloco_edge.engine.generate import Sampler
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.visit import Visit

ROOT = Path(__file__).parents[2]


@pytest.fixture
def film() -> Path:
    """Five seconds of a rolling ball, 12 fps."""
    return ROOT / "models" / "demo" / "ball.mp4"


@pytest.fixture
def scenes(engine: Engine) -> Iterator[Scenes]:
    """The scenes of a page that has just been opened."""
    scenes = Scenes(engine)
    yield scenes
    scenes.close()


@pytest.fixture
def visit(scenes: Scenes) -> Visit:
    """The first visitor."""
    return Visit("ann", scenes)


@pytest.fixture
def never_ends(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never ends its turn, at a pace that a test can follow."""
    token = engine.tokenize("a")[0]

    def sample(*_: Any) -> int:
        time.sleep(0.002)
        return token

    monkeypatch.setattr(Sampler, "sample", sample)
