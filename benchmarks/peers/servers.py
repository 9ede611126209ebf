"""llama-server and the example server of llama-cpp-python, each in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers import http
from benchmarks.peers.process import Process, free_port, wait_until_served
from benchmarks.peers.request import Reading, Request


class Server:
    """A server at a port, asked one question at a time."""

    def __init__(
        self,
        process: Process,
        port: int,
        about: Mapping[str, Any],
        *,
        more: Mapping[str, Any] | None = None,
        as_video: bool = False,
        health: str = "/health",
    ) -> None:
        """Returns when it is ready; raises PeerError."""
        self.about, self.port = about, port
        self._process, self._more, self._as_video = process, dict(more or {}), as_video
        try:
            wait_until_served(process, f"http://127.0.0.1:{port}{health}")
        except BaseException:
            process.close()
            raise

    def answer(self, request: Request) -> Reading:
        """As Peer."""
        document = http.body(request, as_video=self._as_video, **self._more)
        return http.streamed(self.port, document, {})

    def peak_resident_bytes(self) -> int:
        """As Peer."""
        return self._process.peak_resident_bytes()

    def close(self) -> None:
        """As Peer."""
        self._process.close()


def llama_server(
    program: Path,
    text: Path,
    mmproj: Path,
    *,
    threads: int,
    context: int,
    slots: int | None = 1,
    as_video: bool = False,
    cached: bool = False,
) -> Server:
    """llama-server; one slot unless told otherwise (None: its default).

    Without its prompt cache, unless `cached`: what a slot has in common with its last prompt.
    """
    port = free_port()
    command = [
        program, "-m", text, "--mmproj", mmproj, "--port", str(port), "-c", str(context),
        "-t", str(threads), "--video-fps", "2", *(() if cached else ("--cache-ram", "0")),
        *(() if slots is None else ("-np", str(slots))),
    ]  # fmt: skip
    return Server(
        Process(command, {"LLAMA_ARG_OFFLINE": "1"}),
        port,
        {"command": [str(part) for part in command[1:]]},
        more={"cache_prompt": cached, "reasoning_format": "none"},
        as_video=as_video,
    )


def example_server(
    python: Path, script: Path, text: Path, mmproj: Path, *, threads: int, context: int
) -> Server:
    """llama-cpp-python's examples/server/server.py with the settings that its README has."""
    port = free_port()
    settings = {
        "server": {"host": "127.0.0.1", "port": port},
        "model": {
            "path": str(text),
            "alias": "any",
            "mtmd": {"mmproj_path": str(mmproj)},
            "n_ctx": context,
            "threads": threads,
            "threads_batch": threads,
            "n_seq_max": 16,
            "kv_unified": True,
            "store_logits": False,
        },
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(settings, file)
    try:
        process = Process([python, script, "-C", file.name])
        return Server(process, port, {"settings": settings["model"]}, health="/healthz")
    finally:
        Path(file.name).unlink()
