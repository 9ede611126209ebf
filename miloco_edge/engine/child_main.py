"""The child process: a model, and a socket to the hub's process.

    python -m miloco_edge.engine.child_main DESCRIPTOR

It ends with its parent, whatever ends that: the socket's end, the parent's process id and a timer
in C that fires if Python no longer runs are all looked at.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miloco_edge.engine.child_wire import (
    Channel,
    Message,
    error_to_plain,
    from_plain,
    to_plain,
)
from miloco_edge.engine.economy import Economy
from miloco_edge.engine.protocol import Pending, WindowEngine
from miloco_edge.prompt import Piece, Turn
from miloco_edge.types import Budget, Sampling
from miloco_edge.video import Clip

log = logging.getLogger(__name__)

BEAT_S = 1.0
"""How often the child says that it lives."""
_STUCK_S = 120.0
"""Native code that keeps Python from running for so long is taken to never return."""


def serve(channel: Channel, make: Callable[[Message], WindowEngine]) -> None:
    """Answer the parent until it hangs up (EOFError). The first message says what to load."""
    options, _ = channel.receive()
    parent = os.getppid()
    stop = threading.Event()
    threading.Thread(target=_beat, args=(channel, parent, stop), daemon=True).start()
    live: dict[int, Pending[Any]] = {}
    try:
        engine = make(options)
        engine.load()
    except Exception as error:
        stop.set()
        channel.send({"failed": error_to_plain(error)})
        return
    channel.send({"ready": {"name": engine.name}, "resident": resident_bytes()})
    while True:
        message, clip = channel.receive()
        if "cancel" in message:
            if (pending := live.get(message["cancel"])) is not None:
                pending.cancel()
        else:
            _start(channel, engine, message, clip, live)


def resident_bytes() -> int:
    """This process's resident memory; its peak where the system does not say."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _start(
    channel: Channel,
    engine: WindowEngine,
    message: Message,
    clip: Clip | None,
    live: dict[int, Pending[Any]],
) -> None:
    number: int = message["id"]
    try:
        pending = _call(channel, engine, message, clip)
    except Exception as error:
        channel.send({"id": number, "error": error_to_plain(error)})
        return
    live[number] = pending

    def reply(future: Any) -> None:
        live.pop(number, None)
        error = future.exception()
        outcome = (
            {"result": to_plain(future.result())}
            if error is None
            else {"error": error_to_plain(error)}
        )
        with contextlib.suppress(OSError):  # the parent is gone, and so will this process be
            channel.send({"id": number, "resident": resident_bytes(), **outcome})

    pending.future.add_done_callback(reply)


def _call(
    channel: Channel, engine: WindowEngine, message: Message, clip: Clip | None
) -> Pending[Any]:
    number = message["id"]
    budget = from_plain(Budget, message["budget"])
    if message["verb"] == "decide":
        assert clip is not None
        return engine.decide(clip, message["rules"], budget=budget)

    def emit(piece: Piece) -> None:
        channel.send({"id": number, "piece": to_plain(piece)})

    options = {**message["options"], "budget": budget}
    for name, kind in ASK_OPTIONS.items():
        if name in options:
            options[name] = from_plain(kind, options[name])
    return engine.ask(clip, message["question"], emit=emit if message["emit"] else None, **options)


ASK_OPTIONS = {"history": tuple[Turn, ...], "sampling": Sampling | None}
"""Those of AskOptions that are more than JSON."""


def _beat(channel: Channel, parent: int, stop: threading.Event) -> None:
    """Say that this process lives, and end it when nobody is there to hear."""
    while not stop.wait(BEAT_S):
        # Needs no GIL to fire: code that never gives it back ends here, not as an orphan.
        faulthandler.dump_traceback_later(_STUCK_S, exit=True)
        try:
            channel.send({"beat": resident_bytes()})
        except OSError:
            os._exit(0)
        if os.getppid() != parent:
            os._exit(0)
    faulthandler.cancel_dump_traceback_later()


def _make(options: Message) -> WindowEngine:
    from miloco_edge.engine.local import LocalEngine  # llama.cpp is loaded here and not before

    if isinstance(options.get("economy"), dict):
        options["economy"] = from_plain(Economy, options["economy"])
    return LocalEngine.of(options.pop("ref"), **options)


def main(make: Callable[[Message], WindowEngine] = _make) -> None:
    """Serve the socket whose descriptor is the first argument; then end, whatever still runs."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    # The kernel, short of memory, takes the process that can be had again.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    faulthandler.enable()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        serve(channel, make)
    except EOFError:
        pass  # the parent hung up: what it asked for is of no use any more
    except Exception:
        log.exception("the child process ends")
    finally:
        sys.stderr.flush()
        # Not sys.exit, which would wait for a thread inside native code.
        os._exit(0)


if __name__ == "__main__":
    main()
