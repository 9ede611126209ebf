"""The loop of a side that runs in a process of its own: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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


def read_picture(path: str) -> NDArray[np.uint8]:
    """(h, w, 3) uint8, RGB."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
