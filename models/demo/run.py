"""The demo: the bundled model is asked about bundled clips, through the command line.

Each clip's truth is known, since it was drawn; it stands below the answers, to compare.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from models.demo.clips import CLIPS, FOLDER, truth

OUT = Path(".demo")


def main() -> None:
    """Ask about every clip; the sampled frames are drawn to OUT."""
    OUT.mkdir(exist_ok=True)
    print("A model of 9 million weights that knows drawn scenes alone: a demonstration, no more.")
    for name, clip in CLIPS.items():
        film, sheet = os.path.relpath(FOLDER / f"{name}.mp4"), OUT / f"{name}.png"
        asked = [word for question in clip.questions for word in ("--ask", question)]
        _run("infer", "--model", "demo", "--video", film, *asked, "--annotate", sheet)
        asked = [word for rule in clip.rules for word in ("--rule", rule)]
        _run("infer", "--model", "demo", "--video", film, *asked)
        print(f"What was drawn: {truth(clip.seed)}. Its frames: {sheet}")


def _run(*args: str | Path) -> None:
    words = [str(arg) for arg in args]
    print(f"\n$ miloco-edge {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "miloco_edge", *words], check=True)


if __name__ == "__main__":
    main()
