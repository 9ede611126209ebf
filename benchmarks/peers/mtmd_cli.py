"""llama-mtmd-cli in its chat mode, which keeps the models loaded; frames as pictures.

It reads from a terminal; its stdout is all it tells: `\\n> ` when it listens, a newline when the
prompt is computed, then the answer's pieces as they come (llama.cpp, tools/mtmd/mtmd-cli.cpp).

It is started anew for every question with pictures, which is not counted: a second one finds the
batch of the first, whose chunks are freed by then ("invalid chunk type", or another's pictures).
It warms itself up when it starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.process import PeerError, Process
from benchmarks.peers.request import Reading, Request

READY = b"\n> "


class MtmdCli:
    """The program, waiting for a line."""

    def __init__(
        self, program: Path, text: Path, mmproj: Path, *, threads: int, context: int, system: str,
        tokens: int,
    ) -> None:  # fmt: skip
        """Returns when it listens; raises PeerError. Every answer is of at most `tokens`."""
        self._command = [
            program, "-m", text, "--mmproj", mmproj, "-c", str(context), "-t", str(threads),
            "-n", str(tokens), "-sys", system, "--temp", "0", "--jinja",
        ]  # fmt: skip
        self.about: Mapping[str, Any] = {"command": [str(part) for part in self._command[1:]]}
        self._tokens, self._peak, self._saw = tokens, 0, False
        self._start()

    def answer(self, request: Request) -> Reading:
        """As Peer. What it was asked before is cleared, and not counted."""
        if request.tokens != self._tokens:
            raise PeerError(f"expected {self._tokens} tokens an answer, got {request.tokens}")
        if self._saw and request.frames:
            self._peak = self.peak_resident_bytes()
            self._process.close()
            self._start()
        self._saw = self._saw or bool(request.frames)
        self._process.tell("/clear")
        self._until_ready()
        for frame in request.frames:
            self._process.tell(f"/image {frame}")
            self._until_ready()
        began = time.perf_counter()
        self._process.tell(request.question.replace("\n", " "))
        heard, computed, first = b"", None, None
        while not heard.endswith(READY):
            heard += self._read()
            now = time.perf_counter() - began
            computed = now if computed is None else computed
            if first is None and len(heard) > 1:
                first = now
        # The prompt for the next line comes right after the last token.
        total = time.perf_counter() - began
        return Reading(
            first_token_s=total if first is None else first,
            total_s=total,
            answer=heard[1 : -len(READY)].decode("utf-8", "replace").strip(),
            # It tells no count. An answer that ends before its budget is closed by a newline.
            answer_tokens=None if heard.endswith(b"\n" + READY) else self._tokens,
            own={"computed_s": computed},
        )

    def peak_resident_bytes(self) -> int:
        """As Peer."""
        return max(self._peak, self._process.peak_resident_bytes())

    def close(self) -> None:
        """As Peer."""
        self._process.close()

    def _start(self) -> None:
        self._process, self._saw = Process(self._command, typed=True), False
        try:
            self._until_ready()
        except BaseException:
            self._process.close()
            raise

    def _read(self) -> bytes:
        pipe = self._process.popen.stdout
        assert pipe is not None
        found = os.read(pipe.fileno(), 65536)
        if not found:
            self._process.popen.wait(10)
            raise self._process.fail("it ended")
        return found

    def _until_ready(self) -> None:
        heard = b""
        while not heard.endswith(READY):
            heard += self._read()
