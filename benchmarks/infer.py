"""What `miloco-edge infer` says of a film: where its seconds went, and that a deadline was kept.

    python -m benchmarks.infer MODEL_FOLDER CLIP --out benchmarks/results/infer-7b.json

Each run is a process of its own, to which nothing is known beforehand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.host import describe_host

QUESTION = "What is the person in the picture doing?"
DEADLINE_S = 2.0


def infer(model: Path, clip: Path, *flags: str) -> dict[str, Any]:
    """One run, without what it answered; `beside_loading_s` is all of it but the loading."""
    words = ["infer", "--model", str(model), "--video", str(clip), "--ask", QUESTION, "--json"]
    words += ["--max-tokens", "16", "--temperature", "0", *flags]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "miloco_edge", *words], stdout=subprocess.PIPE, check=True
    )
    process_s = time.perf_counter() - began
    document = json.loads(done.stdout)
    timings = document["timings"]
    return {
        "flags": flags,
        "process_s": process_s,
        "beside_loading_s": timings["total_s"] - timings["load_s"],
        "finish_reason": document["answers"][0]["finish_reason"],
        **{name: document[name] for name in ("video", "usage", "timings", "degraded")},
    }


def main() -> None:
    """Run both, and write what they said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder with a pair")
    parser.add_argument("clip", type=Path, help="a film clip of ten seconds")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    runs = {
        "film": infer(args.model, args.clip),
        "deadline": infer(args.model, args.clip, "--deadline", str(DEADLINE_S)),
    }
    document = {"host": describe_host(), **runs}
    args.out.write_text(json.dumps(document, indent=1) + "\n")
    for name, run in runs.items():
        print(f"{name}: {run['finish_reason']}, {run['beside_loading_s']:.2f} s beside loading")


if __name__ == "__main__":
    main()
