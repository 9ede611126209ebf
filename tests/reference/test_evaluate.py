"""Metrics against scikit-learn, and transformers' answers against its own first token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.synthesize import TINY, synthesize
from miloco_edge import Clip, Engine
from miloco_edge.evaluate import metrics
from miloco_edge.evaluate.manifest import Item
from miloco_edge.evaluate.run import Settings
from quantize import quantize

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("seed", range(20))
def test_metrics_are_scikit_learns(seed: int) -> None:
    from sklearn import metrics as theirs

    draw = np.random.default_rng(seed)
    n = int(draw.integers(5, 400))
    is_yes = draw.random(n) < draw.uniform(0.1, 0.9)
    is_yes[:2] = True, False
    # Rounded, so that there are ties.
    p = np.round(np.clip(0.3 * is_yes + draw.normal(0.35, 0.3, n), 0, 1), int(draw.integers(1, 4)))
    said = p >= 0.5
    counts = metrics.count(said, is_yes)
    precision, recall, f1, _ = theirs.precision_recall_fscore_support(
        is_yes, said, average="binary", zero_division=0
    )
    assert counts.f1 == pytest.approx(f1)
    assert (counts.precision or 0) == pytest.approx(precision)
    assert counts.recall == pytest.approx(recall)
    assert counts.balanced_accuracy == pytest.approx(theirs.balanced_accuracy_score(is_yes, said))
    assert metrics.brier(p, is_yes) == pytest.approx(theirs.brier_score_loss(is_yes, p))
    assert metrics.auroc(p, is_yes) == pytest.approx(theirs.roc_auc_score(is_yes, p))
    names = draw.integers(0, 4, n)
    every = [
        theirs.f1_score(is_yes[names == k], said[names == k], zero_division=0)
        for k in np.unique(names)
        if (is_yes | said)[names == k].any()
    ]
    assert metrics.macro_f1(said, is_yes, names) == pytest.approx(np.mean(every))


def test_transformers_answers_begin_with_its_likeliest_token(tmp_path: Path) -> None:
    """`generate` is given what the forward pass is given that test_numerics compares us with."""
    from benchmarks.agreement import transformers_side
    from tests.reference import transformers_oracle

    folder = tmp_path / "frames"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(4):
        pixels = draw.integers(0, 255, (28, 42, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    checkpoint = tmp_path / "tiny"
    synthesize(checkpoint, TINY)
    quantize(checkpoint, tmp_path / "out", recipe="bf16")
    settings = Settings(max_tokens=1, visual_tokens=1024)
    loaded = transformers_oracle.load(checkpoint)
    with Engine.load(tmp_path / "out", context=2048) as engine:
        answer = transformers_side(checkpoint, engine, settings)
        fitted = engine.fit(Clip.from_folder(folder), 1024)
        frames, pad = list(fitted.frames), "<|video_pad|>"
        media = {
            "video": (f"<|vision_start|>{pad}<|vision_end|>", {"video": [frames]}),
            "text": ("", {}),
        }
        items = {
            "video": Item("v", "exact", (folder,), "What is it?", ("x",)),
            "text": Item("t", "exact", (), "What is it?", ("x",)),
        }
        for kind, (words, pictures) in media.items():
            expected = transformers_oracle.theirs(
                loaded, "What is it?", words, pictures, 2.0 if pictures else None
            )
            token = int(expected.logprobs.argmax())
            assert answer(items[kind]) == loaded.tokenizer.decode([token]).strip(), kind
