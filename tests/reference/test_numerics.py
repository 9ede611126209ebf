"""Our prefill against transformers' own, on random checkpoints: layout, positions, distributions.

transformers computes in float32 on the CPU; our pair is BF16 through llama.cpp. Pictures are made
at a legal size, so that both sides see the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.synthesize import TINY, synthesize
from miloco_edge import Clip, Engine
from miloco_edge.llama import log_softmax
from quantize import quantize

pytestmark = pytest.mark.reference

QUESTION = "What is the person doing?"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "flat-untied": {"seed": 1},
    "nested-tied": {"seed": 2, "flat_config": False, "tied": True},
    "sharded": {"seed": 3, "shards": 3, "prefix": "model.language_model."},
}


@dataclass(frozen=True)
class Pair:
    """A checkpoint in both worlds."""

    checkpoint: Any
    engine: Engine
    theirs: Any
    """transformers_oracle.theirs: imported late, since only `make reference` has transformers."""


@pytest.fixture(scope="module", params=CHECKPOINTS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    from tests.reference import transformers_oracle

    folder = tmp_path_factory.mktemp(request.param)
    checkpoint: Path = folder / "tiny"
    synthesize(checkpoint, TINY, **CHECKPOINTS[request.param])
    quantize(checkpoint, folder / "out", recipe="bf16")
    with Engine.load(folder / "out", context=4096) as engine:
        yield Pair(transformers_oracle.load(checkpoint), engine, transformers_oracle.theirs)


def frames(count: int, width: int, height: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Smooth random pictures: noise would be averaged away by any resizing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pictures = []
    for _ in range(count):
        waves = rng.uniform(0.005, 0.05, (3, 2)), rng.uniform(0, 6, 3)
        channels = [np.sin(a * x + b * y + c) for (a, b), c in zip(*waves, strict=True)]
        pictures.append(np.clip(127 + 120 * np.stack(channels, -1), 0, 255).astype(np.uint8))
    return pictures


@dataclass(frozen=True)
class Ours:
    """What our engine makes of the same prompt."""

    logprobs: NDArray[np.float64]
    positions: NDArray[np.int64]
    embeddings: NDArray[np.float32] | None


def ours(pair: Pair, clip: Clip | None, monkeypatch: pytest.MonkeyPatch) -> Ours:
    """Run our engine, and record what it hands to llama.cpp."""
    context = pair.engine._loaded.context
    decoded: list[tuple[NDArray[np.int32], NDArray[np.float32] | None]] = []
    real = type(context)._decode

    def record(self: Any, owners: Any, positions: Any, wanted: Any, **rest: Any) -> None:
        three = positions[:3] if positions.ndim == 2 else np.tile(positions, (3, 1))
        decoded.append((three, rest.get("embeddings")))
        real(self, owners, positions, wanted, **rest)

    monkeypatch.setattr(type(context), "_decode", record)
    pair.engine._loaded.lookout._openings.clear()  # prefill the system prompt anew, to see it
    with pair.engine.look(clip) as scene:
        logits = scene.logits(QUESTION)[0]
    monkeypatch.undo()
    embeddings = [e for _, e in decoded if e is not None]
    return Ours(
        log_softmax(logits),
        np.concatenate([p for p, _ in decoded], axis=1).astype(np.int64),
        np.concatenate(embeddings) if embeddings else None,
    )


def kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """KL(p || q) of two log distributions, in nats."""
    return float((np.exp(p) * (p - q)).sum())


def agree(name: str, reference: Any, mine: Ours) -> None:
    """The four conditions: positions, embeddings, distribution, likeliest token."""
    np.testing.assert_array_equal(mine.positions, reference.positions)
    cosine = 1.0
    if reference.embeddings is not None:
        assert mine.embeddings is not None, "no visual tokens were laid"
        a, b = reference.embeddings, mine.embeddings
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = float(((a * b).sum(1) / norms).min())
        assert cosine > 0.999
    divergence = kl(reference.logprobs, mine.logprobs)
    print(f"{name}: KL(transformers || ours) {divergence:.6f}, least cosine {cosine:.6f}")
    assert divergence < 0.005
    best = int(reference.logprobs.argmax())
    lead = float(mine.logprobs.max() - mine.logprobs[best])
    assert lead < 0.02, "the likeliest token differs by more than a tie"


@pytest.mark.parametrize("fps", [2.0, 1.0])
def test_video(pair: Pair, fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = frames(6, 448, 252)
    media = f"<|vision_start|>{VIDEO}<|vision_end|>"
    reference = pair.theirs(pair.checkpoint, QUESTION, media, {"video": [pictures]}, fps)
    agree(
        f"video at {fps} fps",
        reference,
        ours(pair, Clip.from_frames(pictures, fps=fps), monkeypatch),
    )

    apart = kl(reference.logprobs, ours(pair, Clip.from_images(pictures), monkeypatch).logprobs)
    print(f"  the same frames as images: KL {apart:.4f}")
    assert apart > 0.005, "this checkpoint cannot tell one layout from another"


@pytest.mark.parametrize("count", [1, 3])
def test_images(pair: Pair, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [frames(1, 224 + 56 * i, 196, seed=i)[0] for i in range(count)]
    media = f"<|vision_start|>{IMAGE}<|vision_end|>" * count
    reference = pair.theirs(pair.checkpoint, QUESTION, media, {"image": [[p] for p in pictures]})
    agree(f"{count} image(s)", reference, ours(pair, Clip.from_images(pictures), monkeypatch))


def test_text(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    agree("text", pair.theirs(pair.checkpoint, QUESTION, "", {}), ours(pair, None, monkeypatch))
