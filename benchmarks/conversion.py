"""How long a conversion takes, how much memory it holds, and that it writes its outputs alone.

    python -m benchmarks.conversion CHECKPOINT PAIR q4_0 bf16 --about TEXT --out FILE.json

Each recipe runs in a process of its own, as the system counts by process. The pair of the first
recipe is kept in PAIR, the others' are removed again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.host import describe_host
from quantize import quantize


def measure(checkpoint: Path, out: Path, recipe: str) -> dict[str, Any]:
    """Convert once, in this process; times in seconds, sizes in bytes."""
    load = os.getloadavg()[0]
    before = _io()
    made = quantize(checkpoint, out, recipe=recipe)
    after = _io()
    used = resource.getrusage(resource.RUSAGE_SELF)
    outputs = {output.file: output.bytes for output in made.outputs}
    manifest = (out / f"{checkpoint.name}-{recipe}.manifest.json").stat().st_size
    read, written, from_disk = (
        after[name] - before[name] for name in ("rchar", "wchar", "read_bytes")
    )
    return {
        "recipe": recipe,
        "load_before": round(load, 2),
        "seconds": made.seconds,
        "user_seconds": round(used.ru_utime, 1),
        "system_seconds": round(used.ru_stime, 1),
        "peak_rss_bytes": made.peak_rss_bytes,
        "source_bytes": sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")),
        "output_bytes": outputs,
        "manifest_bytes": manifest,
        "written_bytes": written,
        "written_beside_outputs_bytes": written - sum(outputs.values()) - manifest,
        "read_bytes": read,
        "read_from_disk_bytes": from_disk,
    }


def _io() -> dict[str, int]:
    """Return what the kernel counts of this process's reads and writes (proc(5))."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def main() -> None:
    """Measure the recipes one after the other and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pair", type=Path, help="where the first recipe's pair stays")
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--about", required=True, help="what the checkpoint is, for the record")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    runs = []
    for number, recipe in enumerate(arguments.recipes):
        folder = arguments.pair if number == 0 else arguments.pair.with_name(f".{recipe}")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            runs.append(pool.submit(measure, arguments.checkpoint, folder, recipe).result())
        if number:
            shutil.rmtree(folder)
        print(json.dumps(runs[-1]))
    document = {"about": arguments.about, "host": describe_host(), "runs": runs}
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
