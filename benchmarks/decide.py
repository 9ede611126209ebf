"""What 16 rules on one clip cost beside the clip and one rule.

    python -m benchmarks.decide MODEL_FOLDER CLIP --out benchmarks/results/decide-7b.json

The ratio is (ViT + prefill + 16 rules) / (ViT + prefill + 1 rule), all on the same scene. Every
repetition looks at frames that were not seen before, so no picture comes from the cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.host import describe_host, peak_resident_bytes
from miloco_edge import Clip, Decision, Engine, Scene
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


def measure(folder: Path, clip: Path, repetitions: int, *, alone: bool) -> dict[str, Any]:
    """Measurements on one loaded model; `alone` asks each rule in a batch of its own, too."""
    with Engine.load(folder) as engine:
        samples = [_sample(engine, _six_frames(clip, i), alone=alone) for i in range(repetitions)]
        files = engine.files
        words = [len(rule.split()) for rule in RULES]
        return {
            "model": {
                "file_type": files.file_type,
                "text_bytes": files.text.stat().st_size,
                "mmproj_bytes": files.mmproj.stat().st_size,
            },
            "rules": len(RULES),
            "words_mean": statistics.mean(words),
            "ratio_median": statistics.median(sample["ratio"] for sample in samples),
            "samples": samples,
            "peak_resident_bytes": peak_resident_bytes(),
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
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    measured = measure(args.model, args.clip, args.repetitions, alone=args.alone)
    result = {"host": describe_host(), "repetitions": args.repetitions, **measured}
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
