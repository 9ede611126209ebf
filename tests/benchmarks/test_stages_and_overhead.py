"""Shares of llama-bench's rates, and what a server adds, from samples that are known."""

from __future__ import annotations

import json
import threading
from argparse import Namespace
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.beside_llama_bench import bench_rates, compare, ours
from benchmarks.peers.request import Reading
from benchmarks.serve_overhead import (
    Record,
    Reply,
    crowd,
    figures,
    model_seconds,
    servers,
    table,
)  # fmt: skip


def test_tests_of_llama_bench_are_told_apart() -> None:
    def one(prompt: int, generated: int, depth: int, rate: float) -> dict[str, Any]:
        return {"n_prompt": prompt, "n_gen": generated, "n_depth": depth, "samples_ts": [rate]}

    lines = [one(432, 0, 0, 70), one(0, 32, 0, 11), one(432, 0, 470, 60), one(0, 32, 470, 10)]
    assert bench_rates(lines, 470) == {"prefill": [70], "decode": [10]}
    with pytest.raises(ValueError, match="got 1 and 0"):
        bench_rates(lines, 471)


def test_shares_are_of_rates() -> None:
    look = Reading(9, 12, "", 470, 8, {"prefill_tokens": 432, "prefill_s": 8.0, "vision_s": 4.0})
    text = Reading(9, 12, "", 470, 9, {"generate_s": 1.0})
    mine = ours([look], text)
    assert mine == {"decode": [8.0], "prefill": [54.0], "vit": [0.25]}
    found = compare(mine, {"decode": [10.0], "prefill": [54.0], "vit": [0.5]})
    assert found["decode"]["share"]["value"] == pytest.approx(0.8)
    assert found["prefill"]["share"]["value"] == 1
    assert found["vit"]["share"]["value"] == 0.5 and found["vit"]["wanted"] == 0.95


def test_an_answer_of_one_token_has_no_rate() -> None:
    with pytest.raises(ValueError, match="several tokens"):
        ours([], Reading(1, 1, "", 9, 1, {"generate_s": 0.0}))


def test_overhead_is_what_the_server_does_not_call_its_models() -> None:
    timings = {"prompt_ms": 900.0, "predicted_ms": 100.0}
    assert model_seconds({"timings": timings}) == 1
    assert model_seconds({"usage": {}}) is None
    record = Record(None, alone=[Reply(1.02, 200, 1.0), Reply(9, 503)])
    record.together = [Reply(float(n), 200) for n in range(1, 101)]
    found = figures(record)
    assert found["overhead_s"]["p50"]["value"] == pytest.approx(0.02)
    assert found["overhead_share"]["p50"]["value"] == pytest.approx(0.02)
    assert found["refused"] == 1
    assert found["many_clients_s"]["p99"]["value"] == pytest.approx(99, abs=0.1)
    shown = table(
        {"clients": 16, "servers": {"ours": found, "b": figures(Record(None, "not here"))}}
    )
    assert "| ours | 1.02 (1.02 to 1.02) | 20.0 | 2.00% |" in shown
    assert "| b | not measured: not here |" in shown


@pytest.fixture
def port() -> Iterator[int]:
    """A server that tells timings, but refuses every question about dogs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(503 if b"dog" in said else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"timings": {"prompt_ms": 1, "predicted_ms": 1}}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_many_clients_ask_every_question_once(port: int) -> None:
    replies = crowd(port, ["a man", "a dog", "a cat"] * 5, clients=4)
    assert [r.status for r in replies] == [200, 503, 200] * 5
    assert all((r.model_s is None) == (r.status == 503) for r in replies)


def test_servers_that_are_not_asked_are_named(pair: Path) -> None:
    asked = {"model": pair, "threads": 1, "tools": None, "example_server": None, "only": None}
    found = servers(Namespace(**asked))
    assert found["miloco-edge"].missing is None
    assert found["llama-server"].missing == "no llama-server in --tools"
    asked["only"] = ["llama-server"]
    assert servers(Namespace(**asked))["miloco-edge"].missing == "left out by --only"
