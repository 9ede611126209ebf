"""How near decode, prefill and the ViT come to llama-bench and to the ViT alone, in turns.

    python -m benchmarks.beside_llama_bench MODEL --tools .reference/build/bin --out FILE.json

Same file, threads, micro-batch, repacking and load mode. Decode is compared at the same depth:
llama-bench is given the depth that our own question without pictures had. Prefill compares our
visual tokens, and those of the system prompt before them, with as many of llama-bench's. Shares are
rates: ours over theirs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.host import describe_host
from benchmarks.peers import frames
from benchmarks.peers.process import PythonSide, path
from benchmarks.peers.request import Reading, Request
from miloco_edge import registry
from miloco_edge.measure.film import write_film
from miloco_edge.measure.host import physical_cores
from miloco_edge.measure.statistics import ratio_of_medians, summarise

STAGES = ("decode", "prefill", "vit")
WANTED = {"decode": 0.90, "prefill": 0.95, "vit": 0.95}
Rates = dict[str, list[float]]


def ours(readings: Sequence[Reading], text: Reading) -> dict[str, list[float]]:
    """Tokens a second of our stages; of the ViT, looks a second."""
    generated = text.own["generate_s"]
    tokens = (text.answer_tokens or 0) - 1
    if tokens < 1 or not generated:
        raise ValueError(f"expected an answer of several tokens to time, got {text.answer_tokens}")
    return {
        "decode": [tokens / generated],
        "prefill": [r.own["prefill_tokens"] / r.own["prefill_s"] for r in readings],
        "vit": [1 / r.own["vision_s"] for r in readings],
    }


def bench_rates(lines: Sequence[Mapping[str, Any]], depth: int) -> dict[str, list[float]]:
    """Tokens a second of llama-bench's tests: prefill after nothing, decode at `depth`."""
    prefill = [t for t in lines if t["n_prompt"] and not t["n_gen"] and not t["n_depth"]]
    decode = [t for t in lines if t["n_gen"] and not t["n_prompt"] and t["n_depth"] == depth]
    if len(prefill) != 1 or len(decode) != 1:
        raise ValueError(f"expected one test of each kind, got {len(prefill)} and {len(decode)}")
    return {
        "prefill": list(prefill[0]["samples_ts"]),
        "decode": list(decode[0]["samples_ts"]),
    }


def compare(mine: Rates, theirs: Rates) -> dict[str, Any]:
    """Shares with intervals, and the samples that they come from."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        share = ratio_of_medians(np.array(theirs[stage]), np.array(mine[stage]))
        found[stage] = {
            "share": asdict(share),
            "wanted": WANTED[stage],
            "ours": asdict(summarise(mine[stage])),
            "theirs": asdict(summarise(theirs[stage])),
            "samples": {"ours": mine[stage], "theirs": theirs[stage]},
        }
    return found


def llama_bench(
    program: Path, text: Path, settings: Mapping[str, str], *, prompt: int, depth: int, tokens: int
) -> dict[str, list[float]]:
    """One run of llama-bench as our engine was loaded. Raises CalledProcessError."""
    command = [
        program, "-m", text, "-o", "json", "-r", "2", "-p", prompt, "-n", tokens,
        "-d", f"0,{depth}", "-t", settings["threads"], "-b", settings["batch"],
        "-ub", settings["batch"], "--repack", int(settings["repack"] == "True"),
        "-lm", "mmap" if settings["mmap"] == "True" else "none",
    ]  # fmt: skip
    done = subprocess.run([str(p) for p in command], capture_output=True, text=True, check=True)
    return bench_rates(json.loads(done.stdout), depth)


def measure(arguments: argparse.Namespace, asked: Sequence[Request], text: Request) -> Any:
    """Rounds of ours, the ViT alone and llama-bench; the last request warms up."""
    files = registry.resolve(arguments.model)
    config = {"model": str(arguments.model), "threads": arguments.threads, "context": 4096}
    python = Path(sys.executable)
    mine: Rates = {stage: [] for stage in STAGES}
    theirs: Rates = {stage: [] for stage in STAGES}
    about: dict[str, Any] = {}
    for number in range(arguments.rounds):
        request, warm_up = asked[number], asked[-1]
        with closing(PythonSide(python, "side_miloco_edge", config)) as side:
            side.answer(warm_up)
            reading, alone = side.answer(request), side.answer(text)
            settings = side.about["settings"]
        about = {
            "settings": settings,
            "depth": alone.prompt_tokens,
            "prefill_tokens": reading.own["prefill_tokens"],
        }
        for stage, values in ours([reading], alone).items():
            mine[stage] += values
        with closing(PythonSide(python, "side_vit", config)) as vit:
            vit.answer(warm_up)
            theirs["vit"].append(1 / vit.answer(request).own["native_s"])
        rates = llama_bench(
            arguments.tools / "llama-bench", files.text, settings,
            prompt=reading.own["prefill_tokens"], depth=alone.prompt_tokens or 0,
            tokens=arguments.tokens,
        )  # fmt: skip
        for stage, values in rates.items():
            theirs[stage] += values
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
    model = {"name": files.name, "file_type": files.file_type, "sha256": files.sha256}
    return {"host": describe_host(), "model": model, **about, "stages": compare(mine, theirs)}


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=path, help="folder with a pair")
    parser.add_argument("--tools", type=path, required=True, help="folder with llama-bench")
    parser.add_argument("--clip", type=path, help="a film; one is drawn where there is none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--depth", type=int, default=448)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--out", type=path, required=True)
    arguments = parser.parse_args()
    facts = frames.facts_of(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        film = arguments.clip or write_film(Path(folder) / "film.mp4")
        asked = frames.from_film(
            film, arguments.rounds + 1, Path(folder) / "film", facts, arguments.tokens
        )
        text = frames.text_alone(arguments.depth, facts, arguments.tokens)
        found = measure(arguments, asked, text)
    for stage, figures in found["stages"].items():
        share = figures["share"]
        print(
            f"{stage}: {share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f}) of theirs, "
            f"wanted {figures['wanted']}"
        )
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
