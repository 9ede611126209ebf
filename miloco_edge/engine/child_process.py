"""A child process: spawned, listened to, ended, and what it died of."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from miloco_edge.engine.child_wire import Channel

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "miloco_edge.engine.child_main")
_LAST_WORDS = 12
_QUOTED = 3
_DEAF_S = 10
"""How long a child may leave a message unread that is larger than the socket's buffer."""
_END_S = 0.3
"""How long a child that was hung up on may take to end by itself."""


@contextmanager
def deaf() -> Iterator[None]:
    """What is spawned in this block hears neither Ctrl-C nor SIGTERM, from its first instruction.

    A terminal sends the one and a service manager the other (systemd's KillMode=control-group) to
    all processes at once; what becomes of a child is its parent's to say, which may let answers
    under way end. A child takes on the mask of the thread that spawns it (execve(2)).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ChildProcess:
    """One run of the child. Spawned, never forked: no lock or thread of this process goes along."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        ours, theirs = socket.socketpair()
        with theirs, deaf():
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [*command, str(descriptor)],
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.channel = Channel(ours, send_s=_DEAF_S)
        self._killed = False
        self._said: deque[str] = deque(maxlen=_LAST_WORDS)
        self._listener = threading.Thread(
            target=self._listen, name="miloco-edge-child-stderr", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def end(self) -> str:
        """Hang up, and see it end: what it died of, in its own last words if it had any."""
        self.channel.close()
        try:
            # One that is dying of itself tells us of what.
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._listener.join(_END_S)
        code = self._process.returncode
        if self._killed:
            cause = "it was ended"
        elif code >= 0:
            cause = f"it ended with code {code}"
        else:
            cause = f"{signal.Signals(-code).name} ended it"
            if code == -signal.SIGKILL:
                cause += ", as the system does when it is short of memory"
        return "; ".join([cause, *list(self._said)[-_QUOTED:]])

    def kill(self) -> None:
        """End it now."""
        self._killed = True
        self._process.kill()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        dumping = False
        with self._process.stderr as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                if not text:
                    continue
                log.info("child: %s", text)
                # What it said before counts, not where Python was (faulthandler).
                dumping = dumping or text.startswith(("Fatal Python error", "Timeout ("))
                if not dumping:
                    self._said.append(text)
