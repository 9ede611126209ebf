"""One server over a fake engine for all tests: it keeps its decoding processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from miloco_edge import Engine
from tests.serve.fake import Fake, served


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[Fake, TestClient]]:
    engine = Fake()
    with served(engine) as client:
        yield engine, client


@pytest.fixture
def engine(server: tuple[Fake, TestClient]) -> Fake:
    """As new for each test; its server goes on."""
    engine, _ = server
    vars(engine).update(vars(Fake()))
    return engine


@pytest.fixture
def client(engine: Fake, server: tuple[Fake, TestClient]) -> TestClient:
    return server[1]


@pytest.fixture(scope="session")
def model(pair: Path) -> Iterator[Engine]:
    """The random pair, loaded; `engine` here is the fake."""
    with Engine.load(pair, threads=1, context=2048) as model:
        yield model
