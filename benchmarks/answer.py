"""How long a first and a second answer take, stage by stage, and whether deadlines are kept.

    python -m benchmarks.answer MODEL_FOLDER CLIP --out benchmarks/results/answer-7b.json
    python -m benchmarks.answer MODEL_FOLDER CLIP --picture --out benchmarks/results/picture-7b.json

Every repetition looks at frames that were not seen before, so no picture comes from the cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.host import describe_host
from benchmarks.proc import held, peak_resident_bytes
from miloco_edge import Budget, Clip, Engine, Sampling

QUESTION = "What is the person in the picture doing?"
GREEDY = Sampling()


def measure(folder: Path, clip: Path, repetitions: int, *, picture: bool) -> dict[str, Any]:
    """Measurements on one loaded model: clips, deadlines and cancelling, or one large picture."""
    resident_before = held()["resident_bytes"]
    with Engine.load(folder) as engine:
        files = engine.files
        result: dict[str, Any] = {
            "model": {
                "file_type": files.file_type,
                "text_bytes": files.text.stat().st_size,
                "mmproj_bytes": files.mmproj.stat().st_size,
            },
            "load_s": engine.load_s,
            "resident_before_bytes": resident_before,
            "resident_loaded_bytes": held()["resident_bytes"],
        }
        if picture:
            result["picture_4096_tokens"] = _answer(
                engine, _picture(clip), Budget(visual_tokens=4096)
            )
        else:
            result |= _clips(engine, clip, repetitions)
        result["peak_resident_bytes"] = peak_resident_bytes()
    return result


def _clips(engine: Engine, clip: Path, n: int) -> dict[str, Any]:
    return {
        "six_frames_448x252": _repeat(n, lambda i: _answer(engine, _six_frames(clip, i), Budget())),
        "film_clip": _repeat(
            n, lambda i: _answer(engine, Clip.from_file(clip, start=i / 20), Budget())
        ),
        "deadline_2s": [_deadline(engine, clip, i) for i in range(n)],
        "cancel": [_cancel(engine, clip, i) for i in range(n)],
    }


def _answer(engine: Engine, clip: Clip, budget: Budget) -> dict[str, Any]:
    """One look, two questions."""
    started = time.perf_counter()
    with engine.look(clip, budget=budget) as scene:
        answers = [
            scene.ask(question, budget=Budget(answer_tokens=16), sampling=GREEDY)
            for question in (QUESTION, "Is anybody else there?")
        ]
        fitted = scene.clip
        assert fitted is not None
        return {
            "frames": len(fitted.frames),
            "size": fitted.size,
            "visual_tokens": fitted.visual_tokens,
            "fit_s": scene.timings.video_s,
            "vision_s": scene.timings.vision_s,
            "prefill_s": scene.timings.prefill_s,
            "answers": [{"usage": asdict(a.usage), "timings": asdict(a.timings)} for a in answers],
            "total_s": time.perf_counter() - started,
        }


def _six_frames(clip: Path, i: int) -> Clip:
    """The frames of the comparison with other runtimes: 3 s of film, 448x252."""
    film = Clip.from_file(clip, frames=6, start=1 + i / 20, end=4 + i / 20)
    pictures = [Image.fromarray(f.pixels).resize((448, 252)) for f in film.frames]
    return Clip.from_frames([np.asarray(p) for p in pictures], fps=2.0)


def _picture(clip: Path) -> Clip:
    frame = Clip.from_file(clip, frames=1, start=5).frames[0]
    return Clip.from_images([np.asarray(Image.fromarray(frame.pixels).resize((1792, 1792)))])


def _deadline(engine: Engine, clip: Path, i: int) -> dict[str, Any]:
    film = Clip.from_file(clip, start=0.5 + i / 20)
    started = time.perf_counter()
    end = time.monotonic() + 2.0
    with engine.look(film, budget=Budget(seconds=2.0)) as scene:
        left = Budget(seconds=max(end - time.monotonic(), 1e-6))
        answer = scene.ask(QUESTION, budget=left)
    return {"finish_reason": answer.finish_reason, "total_s": time.perf_counter() - started}


def _cancel(engine: Engine, clip: Path, i: int) -> dict[str, Any]:
    """Cancel a look in the middle of its prefill; time from the call to the end."""
    film = _six_frames(clip, 10 + i)
    cancelled: list[float] = []

    def cancel() -> None:
        cancelled.append(time.perf_counter())
        engine.cancel()

    # The ViT cannot be stopped inside a call, so the cancellation is aimed behind it.
    vision_s = engine.look(film).timings.vision_s or 0.0
    again = _six_frames(clip, 20 + i)
    timer = threading.Timer(vision_s + 1.0, cancel)
    timer.start()
    scene = engine.look(again)
    ended = time.perf_counter()
    answer = scene.ask(QUESTION)
    timer.cancel()
    return {
        "finish_reason": answer.finish_reason,
        "stopped_after_s": ended - cancelled[0] if cancelled else None,
    }


def _repeat(n: int, run: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    samples = [run(i) for i in range(n)]
    stages = ("vision_s", "prefill_s", "total_s")
    return {
        "median": {stage: statistics.median(s[stage] for s in samples) for stage in stages},
        "samples": samples,
    }


def main() -> None:
    """Parse the command line, measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path, help="folder with a pair")
    parser.add_argument("clip", type=Path, help="a film clip of ten seconds")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--picture", action="store_true", help="one picture of 4 096 tokens")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    measured = measure(args.model, args.clip, args.repetitions, picture=args.picture)
    result = {"host": describe_host(), "repetitions": args.repetitions, **measured}
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
