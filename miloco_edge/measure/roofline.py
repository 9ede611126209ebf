"""How near the model comes to what this machine can do at all.

Decode reads every weight for each token, so memory bandwidth bounds it. Prefill and the ViT use a
weight for hundreds of rows, so multiplications bound them (Williams et al., CACM 52(4), 2009).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from miloco_edge.llama.kernels import kernel_speeds
from miloco_edge.measure.facts import ModelFacts

Bound = Literal["memory", "compute"]

_BYTES_A_THREAD = 128 << 20
"""Many times what a core's share of the last cache holds."""
_RUNS = 5


@dataclass(frozen=True)
class Machine:
    """What the machine can do at its best, on so many threads."""

    threads: int
    bandwidth: float
    """Bytes a second, reading or copying, whichever is more."""
    text_flops: float
    """Operations a second of llama.cpp's kernel for the text model's type, 256 rows at once.

    Of one thread, in its CPU time, times the number of threads: no machine is so good on all.
    """
    vision_flops: float


@dataclass(frozen=True)
class Point:
    """One stage under the roof."""

    stage: str
    bound: Bound
    intensity: float
    """Operations for each byte of weights."""
    flops: float
    """Operations a second that were reached."""
    roof: float
    """Operations a second that the machine could at that intensity."""

    @property
    def share(self) -> float:
        """Of the roof, 0 to 1 (above where the roof was measured on a slower moment)."""
        return self.flops / self.roof


def measure_machine(facts: ModelFacts, threads: int, *, repack: bool) -> Machine:
    """Measure bandwidth and kernels; some seconds. `repack` is how the text weights lie."""
    text = kernel_speeds([facts.text_type], repack=repack)[facts.text_type]
    vision = kernel_speeds([facts.vision_type], repack=False)[facts.vision_type]
    return Machine(
        threads,
        bandwidth(threads),
        2e9 * text.prefill * threads,
        2e9 * vision.prefill * threads,
    )


def under_roof(document: Mapping[str, Any], facts: ModelFacts, threads: int) -> dict[str, Any]:
    """Measure the machine and put the warm medians of a result of `bench` under its roof."""
    machine = measure_machine(facts, threads, repack=document["config"]["repack"])
    warm = document["stages"]["warm"]
    seen = document["samples"][-1]

    def median(stage: str) -> float | None:
        return None if warm[stage] is None else float(warm[stage]["p50"]["value"])

    points = place(
        facts,
        machine,
        token_s=median("token_s"),
        prefill_s=median("prefill_s"),
        vision_pair_s=median("vision_pair_s"),
        visual_tokens=seen["visual_tokens"],
        pair_tokens=seen["visual_tokens"] // max(1, seen["temporal_patches"]),
        depth=seen["prompt_tokens"],
    )
    return {
        "machine": asdict(machine),
        "points": [{**asdict(point), "share": point.share} for point in points],
    }


def bandwidth(threads: int, nbytes: int = _BYTES_A_THREAD) -> float:
    """Bytes a second that `threads` read together, or copy, whichever is more; the best run."""
    sources = [np.ones(nbytes // 8, np.uint64) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:

        def best(work: Callable[[int], object], moved: int) -> float:
            seconds = []
            for _ in range(_RUNS):
                began = time.perf_counter()
                list(pool.map(work, range(threads)))
                seconds.append(time.perf_counter() - began)
            return moved * threads / min(seconds)

        # Both let go of the interpreter's lock.
        read = best(lambda i: np.bitwise_or.reduce(sources[i]), nbytes)
        copied = best(lambda i: np.copyto(targets[i], sources[i]), 2 * nbytes)
    return max(read, copied)


def place(
    facts: ModelFacts,
    machine: Machine,
    *,
    token_s: float | None,
    prefill_s: float | None,
    vision_pair_s: float | None,
    visual_tokens: int,
    pair_tokens: int,
    depth: int,
) -> list[Point]:
    """Put the stages that were measured under the roof.

    `depth` is the number of tokens before the one that is decoded, `pair_tokens` those of one
    temporal patch.
    """
    layer_bytes = facts.token_bytes
    points = []
    if token_s:
        read = layer_bytes + facts.kv_bytes * depth
        work = 2.0 * facts.layer_parameters + 4.0 * facts.layers * depth * facts.width
        points.append(_point("decode", "memory", work, read, token_s, machine, machine.text_flops))
    if prefill_s and visual_tokens:
        work = facts.prefill_flops(visual_tokens)
        points.append(
            _point("prefill", "compute", work, layer_bytes, prefill_s, machine, machine.text_flops)
        )
    if vision_pair_s and pair_tokens:
        work = facts.vision.flops(pair_tokens)
        points.append(
            _point(
                "ViT", "compute", work, facts.mmproj_bytes, vision_pair_s, machine,
                machine.vision_flops,
            )
        )  # fmt: skip
    return points


def _point(
    stage: str, bound: Bound, work: float, read: float, seconds: float, machine: Machine,
    peak: float,
) -> Point:  # fmt: skip
    intensity = work / read
    return Point(stage, bound, intensity, work / seconds, min(peak, machine.bandwidth * intensity))
