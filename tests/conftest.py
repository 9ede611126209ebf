"""A random pair of files for all tests, made once a session by our own pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthesize import TINY, synthesize
from miloco_edge import Clip, Engine
from quantize import quantize


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine's may decide a test."""
    for name in ("MILOCO_EDGE_MODEL", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint in Hugging Face layout."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    synthesize(folder, TINY)
    return folder


@pytest.fixture(scope="session")
def pair(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its BF16 text GGUF, mmproj and manifest."""
    folder = tmp_path_factory.mktemp("pair")
    quantize(checkpoint, folder, recipe="bf16")
    return folder


@pytest.fixture(scope="session")
def engine(pair: Path) -> Iterator[Engine]:
    """The pair, loaded."""
    with Engine.load(pair, threads=1, context=2048) as engine:
        yield engine


@pytest.fixture
def clip() -> Clip:
    """Four smooth frames at 2 fps: two temporal patches, enlarged to 144 tokens each."""
    y, x = np.mgrid[0:224, 0:224]
    frames = [
        np.stack([(x + 40 * i) % 256, (y * 2) % 256, (x + y) % 256], -1).astype(np.uint8)
        for i in range(4)
    ]
    return Clip.from_frames(frames, fps=2.0)
