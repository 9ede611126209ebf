"""What `serve` adds to the model's time, and how late the last of many clients is, beside others.

    python -m benchmarks.serve_overhead MODEL --tools .reference/build/bin --out FILE.json
    python -m benchmarks.serve_overhead MODEL --clients 1 --requests 3 --only miloco-edge ...

Every server gets the same requests: pictures and a question, in OpenAI's words. The pictures are
JPEGs, as cameras, Home Assistant and Frigate send them. In each round each is started in an order
drawn anew, warmed up, asked by one client, then by many at once. Overhead is what one client waits
beyond what the server says its model took (`timings`): HTTP, decoding of pictures, the way to the
engine's process and back. A server that does not say has none.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.host import describe_host
from benchmarks.peers import frames
from benchmarks.peers import http as openai
from benchmarks.peers.process import PeerError, Process, free_port, path
from benchmarks.peers.request import Request
from benchmarks.peers.servers import Server, example_server, llama_server
from miloco_edge import registry
from miloco_edge.measure.film import write_film
from miloco_edge.measure.host import physical_cores
from miloco_edge.measure.statistics import summarise

OURS, SERVER = "miloco-edge", "llama-server"
EXAMPLE = "llama-cpp-python, example server"
_LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Reply:
    """One request as its client saw it."""

    seconds: float
    status: int
    model_s: float | None = None
    """What the server says that its model took."""


@dataclass
class Record:
    """One server's replies."""

    start: Callable[[], Server] | None
    missing: str | None = None
    alone: list[Reply] = field(default_factory=list)
    together: list[Reply] = field(default_factory=list)


def model_seconds(document: Mapping[str, Any]) -> float | None:
    """From llama-server's `timings`; None where there are none."""
    timings = document.get("timings")
    if not timings:
        return None
    return float(timings["prompt_ms"] + timings["predicted_ms"]) / 1000


def ask(port: int, content: str) -> Reply:
    """One request, not streamed, on a connection of its own."""
    connection = http.client.HTTPConnection(_LOCAL, port, timeout=1800)
    began = time.perf_counter()
    try:
        connection.request("POST", openai.PATH, content, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        said = reply.read()
    finally:
        connection.close()
    seconds = time.perf_counter() - began
    if reply.status != 200:
        return Reply(seconds, reply.status)
    return Reply(seconds, 200, model_seconds(json.loads(said)))


def crowd(port: int, contents: Sequence[str], clients: int) -> list[Reply]:
    """So many clients, each asking its next question as soon as it has an answer."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(partial(ask, port), contents))


def figures(record: Record) -> dict[str, Any]:
    """What the replies come to; refused ones are counted apart and not timed."""
    if not record.alone:
        return {"not_measured": record.missing or "it had no turn"}
    alone = [r for r in record.alone if r.status == 200]
    told = [(r.seconds, r.model_s) for r in alone if r.model_s is not None]
    overhead = [seconds - model for seconds, model in told]
    return {
        "one_client_s": _summary([r.seconds for r in alone]),
        "model_s": _summary([model for _, model in told]),
        "overhead_s": _summary(overhead),
        "overhead_share": _summary([seconds / model - 1 for seconds, model in told]),
        "many_clients_s": _summary([r.seconds for r in record.together if r.status == 200]),
        "refused": sum(r.status != 200 for r in (*record.alone, *record.together)),
        "samples": {
            "one_client": [asdict(r) for r in record.alone],
            "many_clients": [asdict(r) for r in record.together],
        },
    }


def _summary(values: Sequence[float]) -> dict[str, Any] | None:
    return asdict(summarise(values)) if values else None


def servers(arguments: argparse.Namespace) -> dict[str, Record]:
    """Everybody, here or not."""
    files = registry.resolve(arguments.model)
    pair = (files.text.resolve(), files.mmproj.resolve())
    size = {"threads": arguments.threads, "context": 8192}
    found = {OURS: Record(partial(_serve, arguments.model, **size))}
    program = None if arguments.tools is None else arguments.tools / "llama-server"
    if program is None or not program.is_file():
        found[SERVER] = Record(None, "no llama-server in --tools")
    else:
        found[SERVER] = Record(partial(llama_server, program, *pair, slots=None, **size))
    if arguments.example_server is None:
        found[EXAMPLE] = Record(None, "no --example-server")
    else:
        python = arguments.server_python or Path(sys.executable)
        start = partial(example_server, python, arguments.example_server, *pair, **size)
        found[EXAMPLE] = Record(start)
    for name, record in found.items():
        if arguments.only and name not in arguments.only and record.start is not None:
            found[name] = Record(None, "left out by --only")
    return found


def _serve(model: Path, *, threads: int, context: int) -> Server:
    port = free_port()
    command = [
        sys.executable, "-m", "miloco_edge", "serve", "--model", model, "--port", str(port),
        "--threads", str(threads), "--context", str(context),
    ]  # fmt: skip
    return Server(Process(command), port, {"command": [str(part) for part in command[2:]]})


def hold(
    records: Mapping[str, Record],
    requests: Sequence[Request],
    *,
    rounds: int,
    clients: int,
    each: int,
) -> None:
    """Fill the records: `each` requests alone and `each` for every one of many clients a round."""
    for number in range(rounds):
        order = [name for name, record in records.items() if record.start is not None]
        random.Random(number).shuffle(order)
        for name in order:
            print(f"round {number + 1} of {rounds}: {name}", flush=True)
            record = records[name]
            try:
                _turn(record, requests, clients, each)
            except PeerError as error:
                record.start, record.missing = None, str(error)
                print(f"  failed: {error}", flush=True)


def _turn(record: Record, requests: Sequence[Request], clients: int, each: int) -> None:
    assert record.start is not None
    contents = [json.dumps(openai.body(request, cache_prompt=False)) for request in requests]
    with closing(record.start()) as server:
        ask(server.port, contents[-1])
        record.alone += [ask(server.port, content) for content in contents[:each]]
        if clients > 1:
            record.together += crowd(server.port, contents[each : each * (clients + 1)], clients)


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder with a pair", type=path)
    parser.add_argument("--tools", help="folder with llama-server", type=path)
    parser.add_argument("--example-server", help="llama-cpp-python's server.py", type=path)
    parser.add_argument("--server-python", help="a Python with what that needs", type=path)
    parser.add_argument("--clip", help="a film; one is drawn where there is none", type=path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=3, help="of each client, in each round")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--frames", type=int, default=2, help="pictures in each request, up to 6")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument(
        "--only", action="append", choices=(OURS, SERVER, EXAMPLE), help="this one alone"
    )
    parser.add_argument("--out", required=True, type=path)
    arguments = parser.parse_args()
    facts = frames.facts_of(arguments.model)
    crowded = arguments.clients if arguments.clients > 1 else 0
    count = arguments.requests * (crowded + 1) + 1
    records = servers(arguments)
    with tempfile.TemporaryDirectory() as folder:
        film = arguments.clip or write_film(Path(folder) / "film.mp4")
        requests = frames.from_film(
            film, count, Path(folder) / "film", facts, arguments.tokens, arguments.frames, ".jpg"
        )
        hold(
            records, requests, rounds=arguments.rounds, clients=arguments.clients,
            each=arguments.requests,
        )  # fmt: skip
    files = registry.resolve(arguments.model)
    found = {
        "host": describe_host(),
        "model": {"name": files.name, "file_type": files.file_type, "sha256": files.sha256},
        "clients": arguments.clients,
        "frames": arguments.frames,
        "pictures": "JPEG",
        "tokens": arguments.tokens,
        "threads": arguments.threads,
        "servers": {name: figures(record) for name, record in records.items()},
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def table(found: Mapping[str, Any]) -> str:
    """As Markdown."""
    lines = [
        "| server | one client, s | overhead, ms | of the model's time | "
        f"{found['clients']} clients, p50 s | p99 s | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in found["servers"].items():
        if "not_measured" in each:
            lines.append(f"| {name} | not measured: {each['not_measured']} | | | | | |")
            continue
        overhead, share = each["overhead_s"], each["overhead_share"]
        cells = [
            name,
            _cell(each["one_client_s"], "p50"),
            "–" if overhead is None else f"{1000 * overhead['p50']['value']:.1f}",
            "–" if share is None else f"{share['p50']['value']:.2%}",
            _cell(each["many_clients_s"], "p50"),
            _cell(each["many_clients_s"], "p99"),
            str(each["refused"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(summary: Mapping[str, Any] | None, quantile: str) -> str:
    if summary is None or summary[quantile] is None:
        return "–"
    value = summary[quantile]
    return f"{value['value']:.3g} ({value['low']:.3g} to {value['high']:.3g})"


if __name__ == "__main__":
    main()
