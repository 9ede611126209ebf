"""Many clients at once, and many that leave: nothing hangs, nothing is left behind."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.home import until
from tests.integration.server import KEY, metric, serving
from tests.serve.test_leaving import Running

pytestmark = pytest.mark.integration


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def running() -> Iterator[Running]:
    with Running() as running:
        yield running


def test_a_hundred_streams_that_are_left(running: Running) -> None:
    before, threads = descriptors(), threading.active_count()
    for i in range(100):
        connection = running.ask(stream=True)
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
        connection.close()
        until(lambda i=i: len(running.engine.cancelled) == i + 1, 30)
    until(lambda: running.turns.active == running.turns.waiting == 0, 30)
    until(lambda: descriptors() <= before + 2, 30)
    until(lambda: threading.active_count() <= threads + 40, 30)
    assert not running.app.state.serving.at_work


def test_a_thousand_connections_that_say_nothing(running: Running) -> None:
    """They are hung up on, and one with a question is answered meanwhile."""
    before = descriptors()
    idle = [socket.create_connection(("127.0.0.1", running.port), timeout=30) for _ in range(1000)]
    try:
        assert running.engine.hold is not None
        running.engine.hold.set()
        began = time.monotonic()
        connection = running.ask()
        reply = connection.getresponse()
        assert reply.status in (200, 503)
        reply.read()
        connection.close()
        assert time.monotonic() - began < 20
        for each in idle:
            assert each.recv(1) == b"", "it waits for ever"
    finally:
        for each in idle:
            each.close()
    until(lambda: descriptors() <= before + 2, 30)


def test_overhead_under_sixteen_clients(pair: Path) -> None:
    """What the server adds to the model's own time, as its metrics have it; printed."""
    with serving(pair) as address:
        port = int(address.rpartition(":")[2])

        def ask() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            body = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4}
            headers = {"Authorization": f"Bearer {KEY}"}
            for _ in range(4):
                connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
                reply = connection.getresponse()
                assert reply.status == 200, reply.read()
                reply.read()
            connection.close()

        clients = [threading.Thread(target=ask) for _ in range(16)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(300)
        count = metric(address, "miloco_edge_overhead_seconds_count")
        total = metric(address, "miloco_edge_overhead_seconds_sum")
        assert count == 64
        print(f"overhead {1000 * total / count:.1f} ms a request, load {os.getloadavg()[0]:.1f}")
