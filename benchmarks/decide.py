"""What 16 rules on one clip cost beside the clip and one rule, here and at llama-server.

    python -m benchmarks.decide MODEL_FOLDER CLIP --out benchmarks/results/decide-7b.json
    python -m benchmarks.decide MODEL_FOLDER CLIP --llama-server .reference/build/bin/llama-server

The ratio is (ViT + prefill + 16 rules) / (ViT + prefill + 1 rule). Every repetition looks at frames
that were not seen before, so no picture comes from an earlier one. llama-server (of the same
llama.cpp: `make reference` builds it) gets the same frames as pictures and each rule as a request
for one token, with its prompt cache: once all of them one after another in one slot, once as many
at a time as it has slots. The sides take turns, and each repetition begins with another one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.host import describe_host
from benchmarks.peers.frames import facts_of, user_words
from benchmarks.peers.request import Request
from benchmarks.peers.servers import Server, llama_server
from benchmarks.proc import peak_resident_bytes
from miloco_edge import Clip, Decision, Engine, Scene
from miloco_edge.prompt import ChatFacts
from miloco_edge.prompt.decision import rule_question
from miloco_edge.types import Calibration

RULES = (
    "Someone is sitting on the sofa in the living room and reading a book",
    "Someone is watching the television while the ceiling light is switched off",
    "The baby is standing in the cot and holding on to its rail",
    "A person is lying on the floor and has not moved for a while",
    "The front door is open although there is nobody in the hallway now",
    "A parcel is standing on the doormat in front of the closed door",
    "Somebody is cooking at the stove and a pan is smoking on it",
    "The dog has jumped onto the bed and is lying on the pillow",
    "A child is climbing onto the window sill next to the open window",
    "Two people are having dinner together at the table in the kitchen",
    "Someone is doing sit-ups on a mat in front of the big mirror",
    "A person is looking at a phone while walking down the stairs",
    "Someone at the desk is playing a game and wearing large headphones",
    "A hand in front of the camera is showing a thumbs up sign",
    "The curtains in the bedroom are closed while it is bright outside",
    "Water is running into the bathtub and nobody is in the bathroom",
)
"""About 13 words each, as people write them."""

_ONE_BY_ONE, _IN_SLOTS = "llama-server, one by one", "llama-server, in slots"
_SLOT_TOKENS = 2048
"""Context of a slot: six pictures of 144 tokens, and a rule."""


def measure(
    folder: Path,
    clip: Path,
    repetitions: int,
    *,
    alone: bool,
    threads: int,
    server: ServerOptions | None,
) -> dict[str, Any]:
    """Measurements on one loaded model; `alone` asks each rule in a batch of its own, too.

    With a server each repetition is measured on every side in turn, a different one first.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(Engine.load(folder, threads=threads))
        sides: dict[str, Callable[[Clip], dict[str, Any]]] = {
            "ours": lambda film: _sample(engine, film, alone=alone)
        }
        servers: dict[str, Server] = {}
        if server is not None:
            facts = facts_of(engine.files.text)
            for name, slots in ((_ONE_BY_ONE, 1), (_IN_SLOTS, server.slots)):
                servers[name] = _start(engine, server, slots)
                stack.callback(servers[name].close)
                sides[name] = partial(_served, servers[name], slots, facts)
        samples: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for i in range(repetitions):
            names = list(sides)
            for name in names[i % len(names) :] + names[: i % len(names)]:
                samples[name].append(sides[name](_six_frames(clip, i)))
        files = engine.files
        return {
            "model": {
                "file_type": files.file_type,
                "text_bytes": files.text.stat().st_size,
                "mmproj_bytes": files.mmproj.stat().st_size,
            },
            "rules": len(RULES),
            "words_mean": statistics.mean(len(rule.split()) for rule in RULES),
            "ratio_median": statistics.median(sample["ratio"] for sample in samples["ours"]),
            "samples": samples["ours"],
            "peak_resident_bytes": peak_resident_bytes(),
            "servers": {
                name: {
                    "about": dict(each.about),
                    "ratio_median": statistics.median(s["ratio"] for s in samples[name]),
                    "samples": samples[name],
                    "peak_resident_bytes": each.peak_resident_bytes(),
                }
                for name, each in servers.items()
            },
        }


@dataclass(frozen=True)
class ServerOptions:
    """How llama-server is run."""

    program: Path
    threads: int
    slots: int


def _start(engine: Engine, options: ServerOptions, slots: int) -> Server:
    return llama_server(
        options.program,
        engine.files.text,
        engine.files.mmproj,
        threads=options.threads,
        context=_SLOT_TOKENS * slots,
        slots=slots,
        cached=True,
    )


def _served(server: Server, slots: int, facts: ChatFacts, film: Clip) -> dict[str, Any]:
    """One rule on fresh frames, then all the others: as many at once as there are slots."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(slots) as pool:
        paths = [Path(folder) / f"{i}.png" for i in range(len(film.frames))]
        for path, frame in zip(paths, film.frames, strict=True):
            Image.fromarray(frame.pixels).save(path)
        names = tuple(map(str, paths))
        requests = [
            Request(names, film.fps, facts.system, user_words(rule_question(rule), facts), 1)
            for rule in RULES
        ]
        began = time.perf_counter()
        first = server.answer(requests[0])
        one_s = time.perf_counter() - began
        others = list(pool.map(server.answer, requests[1:]))
        all_s = time.perf_counter() - began
    return {
        "look_and_one_rule_s": one_s,
        "look_and_all_rules_s": all_s,
        "ratio": all_s / one_s,
        "prompt_tokens": first.prompt_tokens,
        "each_s": [reading.total_s for reading in (first, *others)],
        "own": [dict(reading.own) for reading in (first, *others)],
    }


def _sample(engine: Engine, clip: Clip, *, alone: bool) -> dict[str, Any]:
    with engine.look(clip) as scene:
        look_s = (scene.timings.vision_s or 0.0) + (scene.timings.prefill_s or 0.0)
        one_s, one = _decide(scene, RULES[:1])
        all_s, together = _decide(scene, RULES)
        sample: dict[str, Any] = {
            "visual_tokens": scene.usage.visual_tokens,
            "vision_s": scene.timings.vision_s,
            "prefill_s": scene.timings.prefill_s,
            "one_rule_s": one_s,
            "all_rules_s": all_s,
            "ratio": (look_s + all_s) / (look_s + one_s),
            "p_yes_shift_of_first": abs((one[0].p_yes or 0.0) - (together[0].p_yes or 0.0)),
        }
        if alone:
            timed = [_decide(scene, [rule]) for rule in RULES]
            pairs = zip(together, (decided[0] for _, decided in timed), strict=True)
            sample["one_by_one_s"] = sum(seconds for seconds, _ in timed)
            sample["p_yes_shift_max"] = max(
                abs((a.p_yes or 0.0) - (b.p_yes or 0.0)) for a, b in pairs
            )
        return sample


def _decide(scene: Scene, rules: Sequence[str]) -> tuple[float, list[Decision]]:
    started = time.perf_counter()
    decisions = scene.decide(rules, calibration=Calibration())
    return time.perf_counter() - started, decisions


def _six_frames(clip: Path, i: int) -> Clip:
    """Three seconds of film as six frames of 448x252: 432 visual tokens."""
    film = Clip.from_file(clip, frames=6, start=i / 20, end=3 + i / 20)
    pictures = [Image.fromarray(frame.pixels).resize((448, 252)) for frame in film.frames]
    return Clip.from_frames([np.asarray(picture) for picture in pictures], fps=2.0)


def main() -> None:
    """Parse the command line, measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path, help="folder with a pair")
    parser.add_argument("clip", type=Path, help="a film clip of some seconds")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="time each rule by itself, too")
    parser.add_argument("--llama-server", type=Path, help="the program")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    server = None
    if args.llama_server is not None:
        server = ServerOptions(args.llama_server.absolute(), args.threads, args.slots)
    measured = measure(
        args.model,
        args.clip,
        args.repetitions,
        alone=args.alone,
        threads=args.threads,
        server=server,
    )
    result = {"host": describe_host(), "repetitions": args.repetitions, **measured}
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
