"""Peers as processes: started, asked, their memory read, ended."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import tempfile
import termios
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from benchmarks import proc
from benchmarks.peers.request import Reading, Request

ROOT = Path(__file__).parents[2]
_LAST_WORDS = 600


class PeerError(Exception):
    """A peer did not start, died, or answered with an error; the message holds its last words."""


class Peer(Protocol):
    """A runtime with its model loaded."""

    about: Mapping[str, Any]
    """Its version and settings."""

    def answer(self, request: Request) -> Reading:
        """Ask; raises PeerError."""

    def peak_resident_bytes(self) -> int:
        """The most memory that its process ever held."""

    def close(self) -> None:
        """End it."""


class Process:
    """A command that runs until it is closed; what it says to stderr is kept for errors."""

    def __init__(
        self,
        command: Sequence[object],
        environment: Mapping[str, str] | None = None,
        *,
        typed: bool = False,
    ) -> None:
        """`typed`: it reads from a terminal of its own, whose echo nobody sees."""
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._terminal: int | None = None
        theirs: int | None = None
        if typed:
            self._terminal, theirs = os.openpty()
        self.popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if theirs is None else theirs,
            stdout=subprocess.PIPE,
            stderr=self.said,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=_own_terminal if typed else None,
        )
        if theirs is not None and self._terminal is not None:
            os.close(theirs)
            threading.Thread(target=_drain, args=(self._terminal,), daemon=True).start()

    def tell(self, line: str) -> None:
        """Write a line to it; raises PeerError where it is gone."""
        data = line.encode() + b"\n"
        try:
            if self._terminal is not None:
                os.write(self._terminal, data)
            elif self.popen.stdin is not None:
                self.popen.stdin.write(data)
                self.popen.stdin.flush()
        except OSError:
            raise self.fail("it ended") from None

    def fail(self, what: str) -> PeerError:
        """An error with the last words of the process."""
        self.said.seek(0)
        words = self.said.read()[-_LAST_WORDS:].decode("utf-8", "replace").strip()
        return PeerError(f"{what} (exit {self.popen.poll()}): {words}")

    def peak_resident_bytes(self) -> int:
        """VmHWM, mapped files included. Raises PeerError for a process that is gone."""
        try:
            return proc.peak_resident_bytes(self.popen.pid)
        except OSError:
            raise self.fail("expected a living process") from None

    def close(self) -> None:
        """End it, kindly at first."""
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self._terminal is not None:
            os.close(self._terminal)
        self.said.close()


class PythonSide:
    """A module of ours that answers in another process, perhaps under another Python."""

    def __init__(self, python: Path, module: str, config: Mapping[str, Any]) -> None:
        """Returns when its model is loaded; raises PeerError."""
        command = [python, "-m", f"benchmarks.peers.{module}", json.dumps(dict(config))]
        self._process = Process(command, {"PYTHONPATH": str(ROOT)})
        try:
            self.about: Mapping[str, Any] = self._read()
        except PeerError:
            self._process.close()
            raise

    def answer(self, request: Request) -> Reading:
        """As Peer."""
        self._process.tell(json.dumps(request.as_json()))
        return Reading(**self._read())

    def peak_resident_bytes(self) -> int:
        """As Peer."""
        return self._process.peak_resident_bytes()

    def close(self) -> None:
        """As Peer."""
        self._process.close()

    def _read(self) -> dict[str, Any]:
        pipe = self._process.popen.stdout
        assert pipe is not None
        line = pipe.readline()
        if not line:
            self._process.popen.wait(10)
            raise self._process.fail("it ended")
        found: dict[str, Any] = json.loads(line)
        return found


def path(text: str) -> Path:
    """A path of the command line, wherever a process will run; links are kept (a venv's Python)."""
    return Path(text).absolute()


def _own_terminal() -> None:
    """Between fork and exec, in a session of its own: make stdin the controlling terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _drain(terminal: int) -> None:
    """Read the echo, so that it never fills the terminal's buffer."""
    with suppress(OSError):  # the other side is closed
        while os.read(terminal, 4096):
            pass


def free_port() -> int:
    """One that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_served(process: Process, url: str, seconds: float = 600) -> None:
    """Until a GET of `url` is answered with 200; raises PeerError where that never happens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.popen.poll() is not None:
            raise process.fail("it ended")
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise process.fail(f"expected {url} to answer within {seconds:g} s")
