from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miloco_edge import Engine
from miloco_edge.cli.main import main
from miloco_edge.evaluate.calibration import Odds, collect_odds, fit_calibration, fit_platt
from miloco_edge.evaluate.manifest import Item
from miloco_edge.evaluate.run import Settings
from miloco_edge.registry import resolve
from miloco_edge.types import Calibration


def drawn(a: float, b: float, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are yes as often as a and b say."""
    dice = np.random.default_rng(seed)
    logits = dice.normal(0, 4, n)
    return logits, dice.random(n) < 1 / (1 + np.exp(-(a * logits + b)))


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.3, 1.5), (2.0, -1.0), (-0.5, 0.2)])
def test_what_made_the_labels_is_found(a: float, b: float) -> None:
    fitted = fit_platt(*drawn(a, b, 20_000))
    assert fitted.a == pytest.approx(a, abs=0.08)
    assert fitted.b == pytest.approx(b, abs=0.08)


def test_the_fit_is_where_the_gradient_vanishes() -> None:
    logits, is_yes = drawn(0.7, -0.4, 50)
    fitted = fit_platt(logits, is_yes)
    yes, no = int(is_yes.sum()), int((~is_yes).sum())
    target = np.where(is_yes, (yes + 1) / (yes + 2), 1 / (no + 2))
    error = np.array([fitted.p_yes(float(z)) for z in logits]) - target
    assert abs(error.sum()) < 1e-4
    assert abs((error * logits).sum()) < 1e-4


def test_labels_that_can_be_told_apart_make_nobody_certain() -> None:
    logits = np.array([-3.0, -2.0, 2.0, 3.0])
    fitted = fit_platt(logits, logits > 0)
    sure = (fitted.p_yes(2.0) + fitted.p_yes(3.0)) / 2
    assert sure == pytest.approx(0.75, abs=0.02), "Platt's (2 + 1) / (2 + 2)"
    far = fit_platt(np.array([-500.0, 500.0, 400.0, -400.0]), np.array([False, True, True, False]))
    assert np.isfinite([far.a, far.b]).all() and far.a > 0


def test_one_kind_of_label_is_no_calibration() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        fit_platt(np.ones(3), np.ones(3, bool))
    with pytest.raises(ValueError, match="0 yes and 0 no"):
        fit_platt(np.ones(0), np.ones(0, bool))


def test_the_default_leaves_odds_as_they_are() -> None:
    assert Calibration().p_yes(0.0) == 0.5
    assert Calibration().p_yes(np.log(3)) == pytest.approx(0.75)
    assert Calibration().p_yes(1e6) == 1.0 and Calibration().p_yes(-1e6) < 1e-300
    assert Calibration(a=2.0, b=1.0).p_yes(-0.5) == 0.5


def test_calibrated_probabilities_are_as_good_as_they_say() -> None:
    logits, is_yes = drawn(0.4, 1.0, 3000)
    fit = fit_calibration(Odds(logits, is_yes, tuple(f"clip {i // 3}" for i in range(3000)), 0))
    assert (fit.samples, fit.positives) == (3000, int(is_yes.sum()))
    assert fit.before.ece is not None and fit.after.ece is not None
    assert fit.after.ece < 0.05 < fit.before.ece
    assert fit.after.brier is not None and fit.before.brier is not None
    assert fit.after.brier < fit.before.brier


def test_nothing_is_held_out_of_a_single_group() -> None:
    logits, is_yes = drawn(1.0, 0.0, 20)
    fit = fit_calibration(Odds(logits, is_yes, ("one",) * 20, 0))
    assert fit.before.ece is not None
    assert (fit.after.brier, fit.after.ece) == (None, None)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (84, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    Image.new("RGB", (112, 84)).save(tmp_path / "black.png")
    found = []
    for i, name in enumerate(("0", "0", "1", "1", "2", "black")):
        media = (tmp_path / f"{name}.png",)
        found.append(Item(str(i), "binary", media, f"Is it {i}?", ("yes", "no")[i % 2]))
    found.append(Item("x", "exact", found[0].media, "What?", ("noise",)))
    return found


def test_odds_are_those_of_decisions(engine: Engine, items: list[Item]) -> None:
    calls: list[tuple[int, int]] = []
    settings = Settings(visual_tokens=64)
    odds = collect_odds(engine, items, settings, lambda *call: calls.append(call))
    assert odds.left_out == 1
    assert odds.is_yes.tolist() == [True, False, True, False, True]
    assert odds.groups[0] == odds.groups[1] != odds.groups[2]
    assert calls == [(2, 6), (4, 6), (5, 6), (6, 6)]
    assert np.isfinite(odds.logits).all() and len(set(odds.logits)) == 5


def test_the_command_writes_what_every_load_finds(
    pair: Path, items: list[Item], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in pair.iterdir():
        (folder / path.name).symlink_to(path)
    described = next(folder.glob("*.manifest.json"))
    content = described.read_bytes()
    described.unlink()
    described.write_bytes(content)
    lines = [
        {"id": i.id, "task": i.task, "media": str(i.media[0]), "question": i.question,
         "target": i.target if i.task == "binary" else "noise"}
        for i in items
    ]  # fmt: skip
    manifest = tmp_path / "home.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    args = ["eval", "calibrate", "--model", str(folder), "--manifest", str(manifest)]
    args += ["--visual-tokens", "64", "--threads", "1", "--context", "1024"]

    def run(*extra: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*args, *extra])
        code = ended.value.code
        out, err = capfd.readouterr()
        return code if isinstance(code, int) else 0, out, err

    code, out, err = run("--dry-run")
    assert code == 0, err
    assert out.startswith("[p_yes]\na = ") and "nothing was written" in err
    assert described.read_bytes() == content
    code, out, err = run("--json")
    assert code == 0, err
    done = json.loads(out)
    assert (done["samples"], done["positives"], done["left_out"]) == (5, 3, 1)
    assert done["written"] == str(described)
    found = resolve(folder)
    assert found.calibration == Calibration(**done["p_yes"])
    kept = json.loads(described.read_bytes())
    assert kept["p_yes"]["samples"] == 5
    assert kept["tensors"] == json.loads(content)["tensors"], "the rest stays"
    code, out, _ = run("--limit", "1", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (2, "UsageError")
    assert not list(folder.glob(".*"))
