"""How the commands end that go on until they are told to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from miloco_edge.cli.errors import DONE, INTERRUPTED


@contextmanager
def until_stopped() -> Iterator[None]:
    """Take Ctrl-C and SIGTERM for the end that a person or a service manager wants: no error.

    Both raise where the main thread is, so that what is being loaded is given up too, and what is
    open is closed. Ctrl-C ends the command with code 130, SIGTERM with 0.
    """

    def terminate(_: int, __: FrameType | None) -> None:
        sys.exit(DONE)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)
