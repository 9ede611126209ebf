"""The whole way on this machine: checkpoint, quantize, a clip, an answer.

There are no trained weights here yet, so the model is a random one of the same architecture: every
step is real and what it says is noise.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.synthesize import TINY, synthesize

CLIP = Path(__file__).parent / "ball.mp4"
WORK = Path(".demo")


def main() -> None:
    """Make the pair if it is not there, then ask about the clip, through the command line."""
    print("The model of this demo has random weights: it shows the way, its words mean nothing.")
    pair = WORK / "pair"
    if not any(pair.glob("*.manifest.json")):
        synthesize(WORK / "random-tiny", TINY)
        _run("quantize", str(WORK / "random-tiny"), "--recipe", "q8_0", "--out", str(pair))
    _run(
        *("infer", "--model", str(pair), "--video", str(CLIP), "--max-tokens", "24"),
        *("--ask", "What rolls through the room?", "--annotate", str(WORK / "frames.png")),
    )


def _run(*args: str) -> None:
    print(f"\n$ miloco-edge {' '.join(args)}", flush=True)
    subprocess.run([sys.executable, "-m", "miloco_edge", *args], check=True)


if __name__ == "__main__":
    main()
