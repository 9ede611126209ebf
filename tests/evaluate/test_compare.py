from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.synthesize import TINY, synthesize
from miloco_edge import Engine
from miloco_edge.cli.main import main
from miloco_edge.errors import MediaNotFoundError, ModelMismatchError
from miloco_edge.evaluate import Sample, compare
from miloco_edge.evaluate.divergence import f1, kl, summarise
from quantize import quantize

CLIP = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"
SAMPLES = [
    Sample(CLIP, "Is a ball there?", "yes"),
    Sample(CLIP, "Is a dog there?", "No."),
    Sample(CLIP, "What rolls?", "A ball", start=1.0, end=3.0),
]


@pytest.fixture(scope="module")
def coarse(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coarse")
    quantize(checkpoint, folder, recipe="q4_0")
    return folder


def test_a_model_is_no_distance_from_itself(pair: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = compare(
        pair, pair, SAMPLES, threads=1, context=2048, progress=lambda *c: calls.append(c)
    )
    assert abs(found.divergence.mean_kl) < 1e-6
    assert found.divergence.top1 == 1.0
    assert found.p_yes_shift == pytest.approx(0, abs=1e-6)
    assert found.reference.f1 == found.candidate.f1
    assert calls == [(i, 6) for i in range(1, 7)]


def test_quantization_shows(pair: Path, coarse: Path) -> None:
    found = compare(coarse, pair, SAMPLES, threads=1, context=2048)
    assert found.samples == 3
    assert found.divergence.positions > 3
    assert 0.0005 < found.divergence.mean_kl < found.divergence.kl_99
    assert found.divergence.top1 < 1
    assert found.candidate.bytes < found.reference.bytes
    assert (found.reference.file_type, found.candidate.file_type) == ("BF16", "Q4_0")
    assert found.candidate.f1 is not None


def test_other_vocabularies_are_refused(pair: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    synthesize(tmp_path / "wide", replace(TINY, vocab_size=TINY.vocab_size + 32))
    quantize(tmp_path / "wide", tmp_path / "out", recipe="bf16")
    with pytest.raises(ModelMismatchError, match="expected a vocabulary of"):
        compare(tmp_path / "out", pair, SAMPLES[:1], threads=1, context=2048)
    with pytest.raises(ValueError, match="at least one"):
        compare(pair, pair, [])
    with pytest.raises(MediaNotFoundError):
        compare(pair, pair, [Sample(tmp_path / "none.mp4", "?")], threads=1, context=2048)


def test_media_may_be_a_folder_of_frames(pair: Path, tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (112, 84), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    found = compare(pair, pair, [Sample(tmp_path, "Red?", "yes")], threads=1, context=2048)
    assert found.reference.prefill_tokens > 0


def test_the_command(
    pair: Path, coarse: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "home.jsonl"
    lines = [{"media": str(CLIP), "question": "A ball?", "target": "yes"}]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["compare", str(coarse), str(pair), "--clips", str(manifest), *extra])
        assert ended.value.code == 0
        out = capfd.readouterr().out
    document = json.loads(out)
    assert document["samples"] == 1
    assert document["divergence"]["mean_kl"] > 0
    assert document["candidate"]["file_type"] == "Q4_0"


def test_measures_on_distributions_made_by_hand() -> None:
    p = np.log(np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]]))
    q = np.log(np.array([[0.25, 0.5, 0.25], [0.9, 0.05, 0.05]]))
    divergences = kl(p, q)
    np.testing.assert_allclose(divergences, [0.25 * np.log(2), 0], atol=1e-12)
    summary = summarise(divergences, p.argmax(-1) == q.argmax(-1))
    assert (summary.positions, summary.top1) == (2, 0.5)
    assert summary.mean_kl < summary.kl_99 < divergences.max()
    assert f1([True, True, False], [True, False, True]) == pytest.approx(0.5)
    assert f1([False], [False]) == 0


@pytest.mark.parametrize(
    ("target", "is_yes"),
    [("yes", True), ("No.", False), ("是", True), ("否。", False), ("A cat", None), (None, None)],
)
def test_targets(target: str | None, is_yes: bool | None) -> None:
    assert Sample(CLIP, "?", target).is_yes is is_yes


def test_device_profiles_have_no_say(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def load(ref: Path, **options: Any) -> Engine:
        given.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "load", load)
    with pytest.raises(KeyboardInterrupt):
        compare(pair, pair, [Sample(Path("a.png"), "Who?")])
    assert given[0]["profile"] is False
