"""Put the same questions to everybody in turns, and write what came of it.

    python -m benchmarks.peers MODEL --tools .reference/build/bin --out peers.json

MODEL is a folder with a pair. Who is not here is named in the result with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.host import describe_host
from benchmarks.peers import frames, report
from benchmarks.peers.contest import Contestant, hold
from benchmarks.peers.mtmd_cli import MtmdCli
from benchmarks.peers.process import PythonSide, path
from benchmarks.peers.servers import example_server, llama_server
from miloco_edge import registry
from miloco_edge.measure.facts import facts_of
from miloco_edge.measure.film import write_film
from miloco_edge.measure.host import physical_cores

OURS, TUNED = "miloco-edge", "miloco-edge, tuned"
CLI, SERVER, SERVER_VIDEO = "llama-mtmd-cli", "llama-server", "llama-server, video"
HANDLER = "llama-cpp-python, chat handler"
EXAMPLE = "llama-cpp-python, example server"
OPENVINO = "OpenVINO GenAI"
NAMES = (OURS, TUNED, CLI, SERVER, SERVER_VIDEO, HANDLER, EXAMPLE, report.REFERENCE, OPENVINO)
SAME, OTHER = "the same files", "tuned files"


def contestants(arguments: argparse.Namespace, system: str) -> list[Contestant]:
    """Everybody, here or not."""
    files = registry.resolve(arguments.model)
    text, mmproj = files.text.resolve(), files.mmproj.resolve()
    threads, context = arguments.threads, arguments.context
    size = {"threads": threads, "context": context}
    pair = {"text": str(text), "mmproj": str(mmproj)}
    tuned = {"model": str(arguments.tuned), "profile": True}
    python = Path(sys.executable)
    tools, script = arguments.tools, arguments.example_server

    def side(
        name: str, layout: str, kind: str, module: str, config: Any, interpreter: Path = python
    ) -> Contestant:
        start = partial(PythonSide, interpreter, module, {**size, **config})
        return Contestant(name, layout, kind, start)

    def program(name: str, file: str, layout: str, start: Any) -> Contestant:
        if tools is None or not (tools / file).is_file():
            return Contestant(name, layout, SAME, missing=f"no {file} in --tools")
        ready = partial(start, tools / file, text, mmproj, **size)
        return Contestant(name, layout, SAME, ready, warms_up=name != CLI)

    found = [side(OURS, "video", SAME, "side_miloco_edge", {"model": str(arguments.model)})]
    if arguments.tuned is None:
        found.append(Contestant(TUNED, "video", OTHER, missing="no --tuned"))
    else:
        found.append(side(TUNED, "video", OTHER, "side_miloco_edge", tuned))
    cli = partial(MtmdCli, system=system, tokens=arguments.tokens)
    film = partial(llama_server, as_video=True)
    found += [
        program(CLI, "llama-mtmd-cli", "images", cli),
        program(SERVER, "llama-server", "images", llama_server),
        program(SERVER_VIDEO, "llama-server", "video", film),
        side(HANDLER, "images", SAME, "side_chat_handler", pair),
    ]
    if script is None:
        found.append(Contestant(EXAMPLE, "images", SAME, missing="no --example-server"))
    else:
        interpreter = arguments.server_python or python
        start = partial(example_server, interpreter, script, text, mmproj, **size)
        found.append(Contestant(EXAMPLE, "images", SAME, start))
    for name, folder, option, module, config, interpreter in (
        (
            report.REFERENCE, arguments.checkpoint, "--checkpoint", "side_transformers",
            {"checkpoint": str(arguments.checkpoint), "dtype": arguments.dtype},
            arguments.reference_python or python,
        ),
        (
            OPENVINO, arguments.openvino, "--openvino", "side_openvino",
            {"openvino": str(arguments.openvino)}, arguments.openvino_python or python,
        ),
    ):  # fmt: skip
        kind = arguments.dtype if option == "--checkpoint" else "INT4 by optimum-intel"
        if folder is None:
            found.append(Contestant(name, "video", kind, missing=f"no {option}"))
        else:
            found.append(side(name, "video", kind, module, config, interpreter))
    return [_unless_left_out(each, arguments.only or ()) for each in found]


def _unless_left_out(each: Contestant, only: Sequence[str]) -> Contestant:
    if not only or each.name in only or each.missing is not None:
        return each
    return replace(each, start=None, missing="left out by --only")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, hold the rounds, write."""
    parsed = parse(arguments)
    facts = frames.facts_of(parsed.model)
    count = parsed.rounds * parsed.requests
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        film = parsed.clip or write_film(work / "film.mp4")
        # The last is for warming up: nobody is asked it again.
        made = frames.from_film(film, count + 1, work / "film", facts, parsed.tokens)
        asked, warm_up = made[:count], made[count]
        if parsed.manifest is not None:
            asked = frames.from_manifest(
                parsed.manifest, count, work / "items", facts, parsed.tokens,
                registry.resolve(parsed.model).preprocessor,
            )  # fmt: skip
        warm_up = replace(warm_up, frames=warm_up.frames[:2], video=None)
        rounds = [asked[i : i + parsed.requests] for i in range(0, count, parsed.requests)]
        decode = frames.text_alone(parsed.depth, facts, parsed.tokens) if parsed.depth else None
        everybody = contestants(parsed, facts.system)
        records = hold(everybody, rounds, warm_up, decode, lambda line: print(line, flush=True))
    ours = [r.contestant.name for r in records if r.contestant.name in (OURS, TUNED) and r.readings]
    found = report.document(records, ours, _about(parsed, ours))
    parsed.out.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    table = report.markdown(found)
    parsed.out.with_suffix(".md").write_text(table)
    report.plot(found).save(parsed.out.with_suffix(".png"))
    print(table)


def _about(parsed: argparse.Namespace, ours: list[str]) -> dict[str, Any]:
    """What else a figure needs beside it."""
    folders = {SAME: parsed.model, OTHER: parsed.tuned}
    pairs = {kind: registry.resolve(path) for kind, path in folders.items() if path is not None}
    same = pairs[SAME]
    facts = facts_of(registry.read_header(same.text), registry.read_header(same.mmproj))
    return {
        "host": describe_host(),
        "load_average": os.getloadavg(),
        "threads": parsed.threads,
        "context": parsed.context,
        "rounds": parsed.rounds,
        "requests": parsed.requests,
        "tokens": parsed.tokens,
        "ours": ours,
        "models": {
            kind: {"name": f.name, "file_type": f.file_type, "sha256": f.sha256}
            for kind, f in pairs.items()
        },
        "file_bytes": {
            kind: f.text.stat().st_size + f.mmproj.stat().st_size for kind, f in pairs.items()
        },
        "kv_bytes": facts.kv_bytes * parsed.context,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", help="folder with a pair", type=path)
    parser.add_argument("--tuned", help="folder with our own types of the same weights", type=path)
    parser.add_argument("--tools", help="folder with llama-server and llama-mtmd-cli", type=path)
    parser.add_argument(
        "--example-server", help="llama-cpp-python's examples/server/server.py", type=path
    )
    parser.add_argument("--server-python", help="a Python with what that server needs", type=path)
    parser.add_argument("--checkpoint", help="the checkpoint, for transformers", type=path)
    parser.add_argument("--dtype", default="float32", help="transformers' type")
    parser.add_argument("--openvino", help="the model as optimum-intel converts it", type=path)
    parser.add_argument(
        "--reference-python", help="a Python with torch and transformers", type=path
    )
    parser.add_argument("--openvino-python", help="a Python with openvino-genai", type=path)
    parser.add_argument("--clip", help="a film; one is drawn where there is none", type=path)
    parser.add_argument("--manifest", help="ask its questions about videos instead", type=path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1, help="questions in each round")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer, at most")
    parser.add_argument("--depth", type=int, default=448, help="tokens before decode; 0: none")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="this one alone (may be repeated)"
    )
    parser.add_argument("--out", required=True, type=path, help="JSON; table and plot beside it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
