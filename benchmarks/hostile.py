"""What strangers send to `serve`, and what that costs it: answers, the slowest, and what is left.

    python -m benchmarks.hostile MODEL --out benchmarks/results/hostile-demo.json

The command itself is started, and gets in turn: the media and the bodies of
tests/serve/test_hostile.py, heads that drip in letter by letter, streams that are left at their
first piece, and connections that say nothing. A question is asked within each part. Beforehand,
and after each part, the memory, threads and descriptors of its processes are read (the server's
own, and those of its model and decoders together). Everything is sent once before that, so that
what is loaded at first use is nobody's leak. About two minutes with the demo model.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import proc
from benchmarks.host import describe_host
from benchmarks.peers.process import Process, free_port, path
from benchmarks.peers.servers import Server
from miloco_edge import registry
from tests.serve.fake import user
from tests.serve.test_hostile import BODIES, MEDIA, ROUTE, ROUTES

_LOCAL = "127.0.0.1"
_WAIT_S = 120.0
"""Longest that anything is waited for; what takes longer hangs."""
_SETTLE_S = 2.0
"""After a part, for connections to be let go of."""


@dataclass
class Part:
    """What became of one kind of visitor."""

    answers: Counter[str] = field(default_factory=Counter)
    """By status; `closed` without one, `hangs` after two minutes."""
    slowest_s: float = 0.0
    unexpected: int = 0
    """Answered otherwise than tests/serve/test_hostile.py expects."""
    question: str = ""
    """What somebody with a question got meanwhile."""
    question_s: float = 0.0

    def note(self, what: str, seconds: float) -> None:
        """One visitor is through."""
        self.answers[what] += 1
        self.slowest_s = max(self.slowest_s, seconds)


def send(port: int, route: str, body: bytes) -> tuple[str, float]:
    """Post a body: the status, and how long that took."""
    began = time.monotonic()
    with closing(http.client.HTTPConnection(_LOCAL, port, timeout=_WAIT_S)) as connection:
        try:
            connection.request("POST", route, body)
            reply = connection.getresponse()
            reply.read()
            return str(reply.status), time.monotonic() - began
        except TimeoutError:
            return "hangs", time.monotonic() - began
        except (OSError, http.client.HTTPException):
            return "closed", time.monotonic() - began


def chat(*parts: Any, **more: Any) -> bytes:
    """A short question about some media."""
    return json.dumps({"messages": [user("What?", *parts)], "max_tokens": 4, **more}).encode()


def media(port: int, count: int) -> Part:
    """All hostile media, so many times."""
    part = Part()
    for each, expected in MEDIA * count:
        status, seconds = send(port, ROUTE, chat(each))
        part.note(status, seconds)
        part.unexpected += status != str(expected)
    return part


def bodies(port: int, count: int) -> Part:
    """All hostile bodies at all routes, so many times."""
    part = Part()
    for body in BODIES * count:
        for route in ROUTES:
            part.note(*send(port, route, body))
    return part


def dripping(port: int, count: int) -> Part:
    """So many at once whose heads never end."""

    def drip(_: int) -> tuple[str, float]:
        began = time.monotonic()
        with (
            socket.create_connection((_LOCAL, port), timeout=0.5) as slow,
            suppress(ConnectionError),
        ):
            slow.sendall(f"POST {ROUTE} HTTP/1.1\r\nX-A: ".encode())
            while time.monotonic() - began < _WAIT_S:
                slow.sendall(b"a")
                with suppress(TimeoutError):
                    said = slow.recv(4096)
                    return said[9:12].decode() or "closed", time.monotonic() - began
            return "hangs", time.monotonic() - began
        return "closed", time.monotonic() - began

    return _at_once(drip, count)


def streams(port: int, count: int) -> Part:
    """So many, one after another, that are left at their first piece."""
    part = Part()
    for _ in range(count):
        began = time.monotonic()
        with closing(http.client.HTTPConnection(_LOCAL, port, timeout=_WAIT_S)) as connection:
            connection.request("POST", ROUTE, chat(stream=True, max_tokens=200))
            reply = connection.getresponse()
            reply.readline()
            reply.close()
        part.note(str(reply.status), time.monotonic() - began)
    return part


def silent(port: int, count: int) -> Part:
    """So many connections at once that say nothing."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection((_LOCAL, port), timeout=_WAIT_S))
            for _ in range(count)
        ]

        def wait(number: int) -> tuple[str, float]:
            began = time.monotonic()
            try:
                said = opened[number].recv(16)
            except TimeoutError:
                return "hangs", time.monotonic() - began
            except ConnectionError:
                said = b""
            return said[9:12].decode() or "closed", time.monotonic() - began

        return _at_once(wait, count)


def _at_once(visit: Callable[[int], tuple[str, float]], count: int) -> Part:
    part = Part()
    with ThreadPoolExecutor(count) as pool:
        for what, seconds in pool.map(visit, range(count)):
            part.note(what, seconds)
    return part


PARTS: dict[str, tuple[Callable[[int, int], Part], int]] = {
    "media": (media, 5),
    "bodies": (bodies, 5),
    "dripping": (dripping, 100),
    "streams": (streams, 100),
    "silent": (silent, 1000),
}


def processes(pid: int) -> dict[str, dict[str, int]]:
    """Memory, threads and descriptors of the server's own process and of those below it."""
    below = list(_below(pid))
    return {"server": _sum([pid]), "others": {"processes": len(below), **_sum(below)}}


def _below(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _sum(pids: list[int]) -> dict[str, int]:
    found: Counter[str] = Counter(resident_bytes=0, threads=0, descriptors=0)
    for pid in pids:
        found.update(proc.held(pid))
    return dict(found)


def measure(port: int, pid: int, counts: dict[str, int]) -> dict[str, Any]:
    """Send everything, and see what becomes of it."""
    for name, (visit, _) in PARTS.items():
        visit(port, min(counts[name], 2))
    time.sleep(_SETTLE_S)
    found: dict[str, Any] = {"before": processes(pid), "parts": {}}
    for name, (visit, _) in PARTS.items():
        print(name, flush=True)
        with ThreadPoolExecutor(1) as pool:
            visitors = pool.submit(visit, port, counts[name])
            time.sleep(0.2)
            question = send(port, ROUTE, chat())
            part = visitors.result()
        part.question, part.question_s = question
        time.sleep(_SETTLE_S)
        found["parts"][name] = {**vars(part), "after": processes(pid)}
    return found


@contextmanager
def served(model: str) -> Iterator[tuple[int, int]]:
    """The command's port and process."""
    port = free_port()
    command = [sys.executable, "-m", "miloco_edge", "serve", "--model", model, "--port", port]
    process = Process([*command, "--context", 4096])
    with closing(Server(process, port, {})):
        yield port, process.popen.pid


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--out", required=True, type=path)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files = registry.resolve(arguments.model)
    with served(arguments.model) as (port, pid):
        found = measure(port, pid, {name: count for name, (_, count) in PARTS.items()})
    about = {"name": files.name, "file_type": files.file_type, "sha256": files.sha256}
    document = {"host": describe_host(), "model": about, **found}
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
