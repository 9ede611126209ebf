"""A device profile has a say where the caller has none."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from miloco_edge import Budget, Clip, Engine, Sampling
from miloco_edge.engine.profile import (
    Profile,
    named,
    profile_path,
    this_machine,
    write_profile,
)
from miloco_edge.engine.rates import Rates
from miloco_edge.registry import resolve


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILOCO_EDGE_PROFILES", str(tmp_path / "profiles"))
    return tmp_path / "profiles"


RATES = Rates(1e-9, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0.7, 0.8), 512)


def keep(pair: Path, measured_with: Path | None = None, **load: Any) -> Path:
    """Write a profile, with rates where there is an mmproj that they were measured with."""
    machine = this_machine(resolve(pair).text)
    path = profile_path(machine)
    profile = Profile(machine, load, (), (), None, "now")
    if measured_with is not None:
        profile = replace(profile, rates=RATES, mmproj=named(measured_with))
    write_profile(profile, path)
    return path


def say(engine: Engine, clip: Clip) -> str:
    with engine.look(clip, budget=Budget(visual_tokens=128)) as scene:
        return scene.ask("Who?", budget=Budget(answer_tokens=4), sampling=Sampling()).text


def test_what_it_says_is_taken(pair: Path, profiles: Path, clip: Clip, engine: Engine) -> None:
    path = keep(pair, threads=1, batch=64, mmap=False, flash_attention=True, repack=False)
    with Engine.load(pair, context=1024) as tuned:
        settings = tuned.settings
        assert (settings.threads, settings.batch, settings.profile) == (1, 64, path)
        assert (settings.mmap, settings.repack, settings.flash_attention) == (False, False, True)
        assert say(tuned, clip)
    assert engine.settings.profile is None


def test_the_caller_has_the_last_word(pair: Path, profiles: Path) -> None:
    path = keep(pair, threads=7, batch=64, gpu_layers=0)
    with Engine.load(pair, context=512, threads=1, gpu_layers="auto", batch=None) as engine:
        settings = engine.settings
        assert (settings.threads, settings.batch, settings.profile) == (1, 64, path)
    with Engine.load(pair, context=512, threads=1, profile=False) as engine:
        assert (engine.settings.batch, engine.settings.profile) == (512, None)


def test_another_vision_encoder_and_one_that_is_gone(
    pair: Path, profiles: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = resolve(pair).mmproj
    other = Path(shutil.copy(first, tmp_path / "mmproj-other.gguf"))
    keep(pair, mmproj=str(other), threads=1)
    with Engine.load(pair, context=512) as engine:
        assert engine.files.mmproj == other
    with Engine.load(pair, context=512, mmproj=first) as engine:
        assert engine.files.mmproj == first
    other.unlink()
    with caplog.at_level(logging.WARNING), Engine.load(pair, context=512) as engine:
        assert engine.files.mmproj == first
    assert "is gone" in caplog.text


def test_rates_count_only_for_the_vision_encoder_that_they_were_measured_with(
    pair: Path, profiles: Path, tmp_path: Path
) -> None:
    first = resolve(pair).mmproj
    other = Path(shutil.copy(first, tmp_path / "mmproj-other.gguf"))

    def rates(**options: Any) -> Rates:
        with Engine.load(pair, context=512, **options) as engine:
            return engine.rates()

    keep(pair, other, mmproj=str(other), threads=1)
    assert rates() == rates(mmproj=other) == RATES
    assert rates(mmproj=first) != RATES
    other.unlink()
    assert rates() != RATES, "measured with one that is gone"
    keep(pair, first, threads=1)
    assert rates() == RATES
    keep(pair, Path(__file__), threads=1)
    assert rates() != RATES, "the one beside the model is another by now"
    keep(pair, first, threads=1)
    assert rates(threads=2) != RATES


def test_a_kv_cache_of_half_the_size_answers(pair: Path, clip: Clip, profiles: Path) -> None:
    with Engine.load(pair, context=1024, threads=1, kv_type="q8_0", flash_attention=True) as engine:
        assert engine.settings.kv_type == "q8_0"
        assert say(engine, clip)
