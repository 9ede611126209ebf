"""Our one pass beside llama.cpp's three: convert to BF16, llama-quantize, convert the mmproj.

    python -m benchmarks.quantize_beside_reference CHECKPOINT --work DIR --recipe q4_0 \\
        --sdist SDIST --tools TOOLS --python REFERENCE_PYTHON --out FILE.json

SDIST is the unpacked llama-cpp-python sdist, TOOLS the folder of llama-quantize, REFERENCE_PYTHON
an interpreter with torch and transformers: `make reference` sets all three up. The two sides take
turns, and before each the checkpoint is read once, so that both find it in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.host import describe_host


@dataclass(frozen=True)
class Step:
    """A finished process, as the operating system accounts for it."""

    name: str
    seconds: float
    user_s: float
    system_s: float
    peak_rss_bytes: int
    written_bytes: int


def run(name: str, command: list[str | Path], environment: dict[str, str] | None = None) -> Step:
    """Run a command to its end; CalledProcessError if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Step(
        name,
        time.perf_counter() - started,
        usage.ru_utime,
        usage.ru_stime,
        usage.ru_maxrss * 1024,
        usage.ru_oublock * 512,
    )


def ours(checkpoint: Path, out: Path, recipe: str) -> list[Step]:
    """One command: text GGUF, mmproj, manifest with hashes and errors."""
    command: list[str | Path] = [sys.executable, "-m", "miloco_edge", "quantize", checkpoint]
    return [run("miloco-edge quantize", [*command, "--recipe", recipe, "--out", out, "--json"])]


def theirs(checkpoint: Path, out: Path, recipe: str, args: argparse.Namespace) -> list[Step]:
    """Three commands and an intermediate file, which is removed afterwards."""
    source = args.sdist / "vendor" / "llama.cpp"
    convert = [args.python, source / "convert_hf_to_gguf.py", checkpoint, "--outtype", "bf16"]
    environment = {**os.environ, "PYTHONPATH": str(source / "gguf-py")}
    middle, text = out / "bf16.gguf", out / f"{recipe}.gguf"
    steps = [
        run("convert", [*convert, "--outfile", middle], environment),
        run("llama-quantize", [args.tools / "llama-quantize", middle, text, recipe.upper(), "2"]),
        run(
            "convert mmproj", [*convert, "--mmproj", "--outfile", out / "mmproj.gguf"], environment
        ),
    ]
    middle.unlink()
    return steps


def warm(checkpoint: Path) -> None:
    """Read the checkpoint once."""
    for path in checkpoint.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def total(steps: list[Step]) -> dict[str, Any]:
    """Seconds and bytes of a side, and its largest process."""
    return {
        "seconds": sum(step.seconds for step in steps),
        "peak_rss_bytes": max(step.peak_rss_bytes for step in steps),
        "written_bytes": sum(step.written_bytes for step in steps),
        "steps": [asdict(step) for step in steps],
    }


def main() -> None:
    """Take turns, compare, write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder, 40 GB free")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--sdist", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    pairs = []
    for _ in range(args.repetitions):
        pair: dict[str, Any] = {}
        for side in ("ours", "theirs"):
            folder = args.work / side
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            warm(args.checkpoint)
            if side == "ours":
                pair[side] = total(ours(args.checkpoint, folder, args.recipe))
            else:
                pair[side] = total(theirs(args.checkpoint, folder, args.recipe, args))
        equal = _same_text_file(args.work, args.recipe)
        pairs.append({**pair, "ratio": pair["ours"]["seconds"] / pair["theirs"]["seconds"]})
    result = {
        "host": describe_host(),
        "recipe": args.recipe,
        "ratio_median": statistics.median(pair["ratio"] for pair in pairs),
        "text_files_equal": equal,
        "pairs": pairs,
    }
    shutil.rmtree(args.work, ignore_errors=True)
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


def _same_text_file(work: Path, recipe: str) -> bool:
    """Whether both sides wrote the same bytes."""
    mine = next(p for p in (work / "ours").glob("*.gguf") if not p.name.startswith("mmproj"))
    status = subprocess.run(["cmp", "--silent", mine, work / "theirs" / f"{recipe}.gguf"])
    return status.returncode == 0


if __name__ == "__main__":
    main()
