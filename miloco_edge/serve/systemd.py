"""What a service of systemd's Type=notify says of itself: ready, alive, stopping (sd_notify(3)).

Without NOTIFY_SOCKET in the environment nothing is said.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def service(alive: Callable[[], object], environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Say READY=1; then WATCHDOG=1 each time that `alive` returns, in time; at last STOPPING=1.

    `alive` is called in a thread. Where it raises or hangs nothing is said, and systemd starts the
    service anew after WatchdogSec.
    """
    tell("READY=1", environ)
    stop, every_s = threading.Event(), watchdog_s(environ)

    def watch() -> None:
        assert every_s is not None
        while not stop.wait(every_s):
            try:
                alive()
            except Exception:
                log.exception("not alive: the service manager is not told otherwise")
            else:
                tell("WATCHDOG=1", environ)

    if every_s is not None:
        threading.Thread(target=watch, name="miloco-edge watchdog", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        tell("STOPPING=1", environ)


def tell(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send a state to the service manager; one that does not listen is noted in the log."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address)
            manager.send(state.encode())
    except OSError as error:
        log.warning("expected to tell the service manager %s, got: %s", state, error)


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often it wants to hear of us: half of WatchdogSec; None: not at all."""
    asked, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not asked.isdecimal() or int(asked) == 0 or (whose and whose != str(os.getpid())):
        return None
    return int(asked) / 2e6
