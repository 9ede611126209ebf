"""What the compiled parts say of themselves, asked in a process that may die of asking.

    python -m miloco_edge.measure.probe llama

A build for another CPU ends with an illegal instruction, which no exception tells.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["llama", "opencv"]
_LONGEST_S = 60.0
_WINDOWS_ILLEGAL_INSTRUCTION = 0xC000001D


@dataclass(frozen=True)
class Probed:
    """What was said, or how the process ended without saying it."""

    said: dict[str, Any] | None
    illegal_instruction: bool = False
    error: str | None = None
    """The last line on stderr."""


def probe(part: Part) -> Probed:
    """Ask one part in a process of its own."""
    command = [sys.executable, "-m", __name__, part]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Probed(None, error=f"no answer within {_LONGEST_S:g} s")
    if done.returncode == 0:
        return Probed(json.loads(done.stdout))
    return read_failure(done.returncode, done.stderr)


def read_failure(code: int, stderr: str) -> Probed:
    """What an exit code and the words before it mean."""
    illegal = code in (-signal.SIGILL, _WINDOWS_ILLEGAL_INSTRUCTION)
    lines = stderr.strip().splitlines()
    return Probed(None, illegal, lines[-1] if lines else f"exit code {code}")


def _llama() -> dict[str, Any]:
    from miloco_edge.llama import free_gpu_bytes, system_info
    from miloco_edge.llama.offload import gpu_backend

    return {
        "kernels": system_info(),
        "gpu_backend": gpu_backend(),
        "free_gpu_bytes": free_gpu_bytes(),
    }


def _opencv() -> dict[str, Any]:
    import cv2

    return {"version": cv2.__version__, "build": cv2.getBuildInformation()}


if __name__ == "__main__":
    print(json.dumps(_llama() if sys.argv[1] == "llama" else _opencv()))  # noqa: T201
