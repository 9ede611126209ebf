"""A random pair of files for all tests, made once a session by our own pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from benchmarks.synthesize import TINY, synthesize
from miloco_edge import Clip, Engine
from quantize import quantize

# The same examples everywhere: a run that passes here passes on a busier machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

_left_out: list[str] = []


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember what this run leaves to `make reference` and `make integration`."""
    for item in items:
        for mark in ("reference", "integration"):
            if item.get_closest_marker(mark) and f"not {mark}" in item.config.option.markexpr:
                _left_out.append(f"make {mark}: {item.nodeid}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not run is listed by name and counted."""
    if _left_out:
        terminalreporter.section(f"{len(_left_out)} tests left to other targets")
        terminalreporter.write_line("\n".join(sorted(_left_out)))


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
