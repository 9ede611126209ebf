"""The loop of a side that runs in a process of its own: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.peers.request import Reading, Request


def config() -> dict[str, Any]:
    """What this process was started with."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


def serve(answer: Callable[[Request], Reading], about: Mapping[str, Any]) -> None:
    """Say what is loaded, then answer until the input ends. Call it once the model is there.

    Whatever a library prints goes to stderr, so that the lines stay ours.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps(about), file=out, flush=True)
    for line in sys.stdin:
        reading = answer(Request.from_json(json.loads(line)))
        print(json.dumps({**vars(reading)}), file=out, flush=True)
