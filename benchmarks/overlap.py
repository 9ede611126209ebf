"""Seconds to the first token of a window that has two of its three pairs from the one before.

    python -m benchmarks.overlap MODEL [--clip FILM] --rounds 15 --out FILE.json --markdown FILE.md
    python -m benchmarks.overlap MODEL --shape mimo-vl-7b ...       # no weights: random ones

Six frames of 448x252 as three pairs, a question, one token; the model is loaded and the system
prompt prefilled. In turn, in an order that changes from round to round:

    fresh        nothing is known of the window
    reused       two pairs were looked at in the window before: no ViT for them (exact mode)
    streamed     the oldest pair is taken out of the KV cache, the new one appended
    still        a camera at which nothing happens, noise and all, in exact mode
    still, live  the same in live mode

Ratios are of medians, with a 95 % bootstrap interval; fresh and still are what they are of. The
answer's distribution is compared with the fresh one's: a tie is where its two likeliest tokens are
less than 0.1 apart in log probability.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.host import describe_host
from benchmarks.outcome import keep, say_where
from benchmarks.proc import peak_resident_bytes
from miloco_edge import Budget, Clip, Economy, Engine, Sampling
from miloco_edge.engine import log_softmax
from miloco_edge.engine.cache import EmbeddingCache
from miloco_edge.engine.economy import EXACT, LIVE
from miloco_edge.measure.film import mark, write_film
from miloco_edge.measure.shapes import SHAPES
from miloco_edge.measure.statistics import ratio_of_medians, summarise
from miloco_edge.measure.synthetic import write_pair

QUESTION = "What is the person in the picture doing?"
ONE_TOKEN = Budget(answer_tokens=1)
SIZE = (448, 252)
NOISE = 2.0
"""Standard deviation of the still camera's noise, in levels."""
TIE = 0.1
STREAMING = Economy(streaming=64)


@dataclass(frozen=True)
class Way:
    """How the second window is come to."""

    name: str
    economy: Economy
    known: bool = False
    """Whether the window before was looked at."""
    still: bool = False
    beside: str | None = None
    """What it is compared with."""


WAYS = (
    Way("fresh", EXACT),
    Way("reused", EXACT, known=True, beside="fresh"),
    Way("streamed", STREAMING, known=True, beside="fresh"),
    Way("still", EXACT, still=True),
    Way("still, live", LIVE, still=True, beside="still"),
)


@dataclass(frozen=True)
class Sample:
    """One window, and what came of it."""

    first_token_s: float
    vision_s: float
    prefill_s: float
    visual_tokens: int
    logprobs: NDArray[np.float64]


def measure(engine: Engine, film: list[NDArray[np.uint8]], rounds: int) -> dict[str, Any]:
    """`rounds` of all ways; `film` is eight frames at 2 fps."""
    samples: dict[str, list[Sample]] = {way.name: [] for way in WAYS}
    for number in range(-1, rounds):  # the first warms up
        before, window = _windows(film, number)
        still = _still(film[0], number)
        for shift in range(len(WAYS)):
            way = WAYS[(number + shift) % len(WAYS)]
            sample = _sample(engine, way, before, still if way.still else window)
            if number >= 0:
                samples[way.name].append(sample)
    return {way.name: _summary(way, samples) for way in WAYS}


def _sample(engine: Engine, way: Way, before: Clip, window: Clip) -> Sample:
    engine._loaded.lookout.embeddings = EmbeddingCache()
    if way.known:
        with engine.look(before, economy=way.economy) as scene:
            scene.ask(QUESTION, budget=ONE_TOKEN, sampling=Sampling())
    began = time.perf_counter()
    with engine.look(window, economy=way.economy) as scene:
        scene.ask(QUESTION, budget=ONE_TOKEN, sampling=Sampling())
        took = time.perf_counter() - began
        return Sample(
            took,
            scene.timings.vision_s or 0.0,
            scene.timings.prefill_s or 0.0,
            scene.usage.visual_tokens,
            log_softmax(scene.logits(QUESTION)[0]),
        )


def _summary(way: Way, samples: dict[str, list[Sample]]) -> dict[str, Any]:
    own = samples[way.name]
    result: dict[str, Any] = {
        "economy": asdict(way.economy),
        "first_token_s": asdict(summarise([each.first_token_s for each in own])),
        "vision_s_p50": float(np.median([each.vision_s for each in own])),
        "prefill_s_p50": float(np.median([each.prefill_s for each in own])),
        "visual_tokens": own[0].visual_tokens,
        "samples_s": [each.first_token_s for each in own],
        "beside": way.beside,
    }
    if way.beside is not None:
        other = samples[way.beside]
        times = [np.array([each.first_token_s for each in of]) for of in (other, own)]
        result["ratio"] = asdict(ratio_of_medians(*times))
        pairs = list(zip(other, own, strict=True))
        result["ties"] = sum(_tied(a.logprobs) for a, _ in pairs)
        result["other_first_tokens"] = sum(
            not _tied(a.logprobs) and bool(a.logprobs.argmax() != b.logprobs.argmax())
            for a, b in pairs
        )
        result["divergence_mean"] = float(np.mean([_kl(a.logprobs, b.logprobs) for a, b in pairs]))
    return result


def _tied(logprobs: NDArray[np.float64]) -> bool:
    second, first = np.sort(logprobs)[-2:]
    return bool(first - second < TIE)


def _kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    return float((np.exp(p) * (p - q)).sum())


def _windows(film: list[NDArray[np.uint8]], number: int) -> tuple[Clip, Clip]:
    """Two windows of six frames, two pairs of them the same; never seen in another round."""
    clip = Clip.from_frames([frame.copy() for frame in film], fps=2.0)
    mark(clip, number + 1)
    pixels = [frame.pixels for frame in clip.frames]
    return Clip.from_frames(pixels[:6], fps=2.0), Clip.from_frames(pixels[2:], fps=2.0)


def _still(picture: NDArray[np.uint8], number: int) -> Clip:
    """Six frames of one picture, each with noise of its own."""
    random = np.random.default_rng(number + 1)
    noise = random.normal(0, NOISE, (6, *picture.shape))
    return Clip.from_frames((picture + noise).round().clip(0, 255).astype(np.uint8), fps=2.0)


def _film(clip: Path | None, folder: Path) -> list[NDArray[np.uint8]]:
    path = clip or write_film(folder / "film.mp4")
    frames = Clip.from_file(path, frames=8, end=4.0).frames
    return [np.asarray(Image.fromarray(frame.pixels).resize(SIZE)) for frame in frames]


def markdown(result: dict[str, Any]) -> str:
    """The table as a page has it."""
    lines = [
        "| window | to the first token, s | ViT, s | prefill, s | visual tokens | ratio | 95 % "
        "| other first tokens | divergence |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result.items():
        ratio = row.get("ratio")
        compared = (
            ("-", "-", "-", "-")
            if ratio is None
            else (
                f"{ratio['value']:.2f} of {row['beside']}",
                f"{ratio['low']:.2f} – {ratio['high']:.2f}",
                f"{row['other_first_tokens']} of {len(row['samples_s'])}",
                f"{row['divergence_mean']:.4f}",
            )
        )
        cells = (
            name,
            f"{row['first_token_s']['p50']['value']:.2f}",
            f"{row['vision_s_p50']:.2f}",
            f"{row['prefill_s_p50']:.2f}",
            str(row["visual_tokens"]),
            *compared,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _model(reference: str | None, shape: str | None, folder: Path) -> str:
    if (reference is None) == (shape is None):
        raise SystemExit("expected MODEL or --shape, got both or none")
    return str(write_pair(folder / "pair", SHAPES[shape])) if shape else str(reference)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", help="model reference")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights of a shape")
    parser.add_argument("--clip", type=Path, help="a film of four seconds or more")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--context", type=int, default=4096)
    say_where(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = _film(arguments.clip, folder)
        model = _model(arguments.model, arguments.shape, folder)
        with Engine.load(model, threads=arguments.threads, context=arguments.context) as engine:
            result = measure(engine, film, arguments.rounds)
            document = {
                "host": describe_host(),
                "model": {"file_type": engine.files.file_type, "shape": arguments.shape},
                "settings": {**asdict(engine.settings), "profile": bool(engine.settings.profile)},
                "rounds": arguments.rounds,
                "windows": result,
                "peak_resident_bytes": peak_resident_bytes(),
            }
    keep(document, markdown(result), arguments)


if __name__ == "__main__":
    main()
