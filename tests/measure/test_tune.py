from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from miloco_edge import Engine
from miloco_edge.cli.output import Output
from miloco_edge.cli.tune import tune_command
from miloco_edge.engine.profile import (
    Machine,
    Profile,
    Tried,
    profile_path,
    read_profile,
    write_profile,
)
from miloco_edge.engine.rates import Figure, Rates, rates_of
from miloco_edge.errors import ManifestError, ModelLoadError
from miloco_edge.measure.stages import Sample, Stages
from miloco_edge.measure.tune import Setting, choose, settings_for, tune

MACHINE = Machine("cpu", 4, None, "AVX2 = 1", "model.gguf", 123)


def window(total_s: float) -> Sample:
    stages = Stages(vision_pair_s=total_s / 4, prefill_s=total_s / 2, token_s=0.1, total_s=total_s)
    return Sample(False, stages, 100, 2, (280, 280), 120, 4, "x", "stop", (), False)


FIGURES = (
    Figure("resize", 1000, 0, (0.001,)),
    Figure("vision", 64, 0, (0.5, 0.6, 0.5)),
    Figure("vision", 256, 0, (2.5,)),
    Figure("prefill", 64, 0, (0.3,)),
    Figure("token", 8, 64, (0.8,)),
)


class Loaded:
    """What `tune` needs of an engine, with the options that it was loaded with."""

    def __init__(self, where: tuple[Any, Any]) -> None:
        self.where = where
        self.files = SimpleNamespace(mmproj=Path(__file__))

    def gauge(self) -> list[Figure]:
        return list(FIGURES)

    def rates(self) -> Rates:
        return rates_of(FIGURES, 512)


def search(seconds: Mapping[tuple[Any, Any], float], settings: list[Setting]) -> Profile:
    """Tune an engine whose windows take as long as a table says, by (threads, batch)."""

    @contextmanager
    def load(options: Mapping[str, Any]) -> Iterator[Engine]:
        where = (options.get("threads"), options.get("batch"))
        if where not in seconds:
            raise ModelLoadError("it does not fit")
        yield cast(Engine, Loaded(where))

    def serve(engine: Engine, number: int) -> Sample:
        cold = 50.0 if number == 0 else 0.0
        return window(seconds[cast(Loaded, engine).where] * (1 + number / 1000) + cold)

    return tune(load, serve, settings, MACHINE, windows=4)


def test_settings_are_chosen_one_after_the_other() -> None:
    seconds = {(None, None): 10.0, (2, None): 8.0, (8, None): 12.0, (2, 64): 9.0, (2, 128): 6.0}
    profile = search(seconds, [Setting("threads", (2, 8)), Setting("batch", (64, 128, 4096))])
    assert profile.load == {"threads": 2, "batch": 128}
    threads, batch = profile.choices
    assert (threads.chosen, threads.ratio) == (2, pytest.approx(0.8))
    assert [each.value for each in batch.tried] == [None, 64, 128, 4096]
    assert batch.tried[-1].seconds == ()  # could not be loaded
    assert batch.why.startswith("128 takes 0.750 of its time")
    assert profile.figures == FIGURES
    assert profile.rates is not None
    assert profile.rates.vision_s([64, 256]) == pytest.approx(3.0)


def test_the_default_stays_where_nothing_is_shown_to_be_quicker() -> None:
    seconds = {(None, None): 10.0, (2, None): 9.9, (8, None): 12.0}
    profile = search(seconds, [Setting("threads", (2, 8))])
    assert profile.load == {}
    assert "not shown to be quicker" in profile.choices[0].why
    assert search(seconds, [Setting("threads", (8,))]).choices[0].why == (
        "nothing was quicker than the default"
    )


def test_noise_is_no_reason() -> None:
    choice, place = choose(
        "threads", [Tried(None, (1.0, 5.0, 1.0, 5.0, 3.0)), Tried(2, (1.0, 5.0, 1.0, 5.0, 2.8))]
    )
    assert (choice.chosen, place) == (None, 0)


def test_what_is_worth_trying() -> None:
    small = settings_for(4, 8, gpu_layers=None, mmprojs=[])
    assert small[0] == Setting("threads", (2, 3, 8))
    assert [setting.name for setting in small] == [
        "threads", "repack", "mmap", "flash_attention", "batch", "kv_type",
    ]  # fmt: skip
    large = settings_for(1, 1, gpu_layers=37, mmprojs=["q8.gguf"])
    assert large[:2] == [Setting("gpu_layers", (0, 18, 37)), Setting("mmproj", ("q8.gguf",))]


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    profile = search({(None, None): 10.0, (2, None): 8.0}, [Setting("threads", (2, 8))])
    path = tmp_path / "deep" / "profile.json"
    assert read_profile(path) is None
    write_profile(profile, path)
    assert read_profile(path) == profile
    assert [each.name for each in path.parent.iterdir()] == ["profile.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "machine": {}}'])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match="expected a device profile"):
        read_profile(path)


def test_a_profile_is_that_of_one_machine_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILOCO_EDGE_PROFILES", "/profiles")
    path = profile_path(MACHINE)
    assert path.parent == Path("/profiles") and path.name.startswith("model-")
    assert path == profile_path(Machine(*vars(MACHINE).values()))
    others = {"cpu": "other", "cores": 5, "kernels": "", "text_bytes": 9, "backend": "cuda"}
    for name, value in others.items():
        assert profile_path(Machine(**{**vars(MACHINE), name: value})) != path


def test_the_command(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second vision encoder lies beside the model: it is tried, and its figures are kept."""
    monkeypatch.setattr("miloco_edge.engine.load.physical_cores", lambda: 1)
    monkeypatch.setenv("MILOCO_EDGE_PROFILES", str(tmp_path / "profiles"))
    folder = tmp_path / "model"
    shutil.copytree(pair, folder)
    encoder = next(folder.glob("mmproj*.gguf"))
    other = shutil.copy(encoder, folder / "mmproj-other.gguf")
    (folder / "mmproj-broken.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(
        "miloco_edge.cli.tune.settings_for",
        lambda *_, gpu_layers, mmprojs: [Setting("mmproj", tuple(mmprojs))],
    )
    result = CliRunner().invoke(
        tune_command,
        [str(folder), "-n", "3", "--frames", "2", "--visual-tokens", "64", "--max-tokens", "1",
         "--json"],
        obj=Output(), catch_exceptions=False,
    )  # fmt: skip
    document = json.loads(result.stdout)
    (choice,) = document["choices"]
    assert [each["value"] for each in choice["tried"]] == [None, str(other)]
    assert all(len(each["seconds"]) == 3 for each in choice["tried"])
    profile = read_profile(Path(document["profile"]))
    assert profile is not None and profile.rates is not None
    assert {figure.stage for figure in profile.figures} == {"resize", "vision", "prefill", "token"}
    with Engine.load(folder, context=512) as engine:
        assert engine.rates() == profile.rates, "they are taken from the profile, not measured"
    assert Path(document["profile"]).parent == tmp_path / "profiles"


def test_an_encoder_that_lies_elsewhere(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = next(path for path in pair.glob("*.gguf") if not path.name.startswith("mmproj"))
    encoder = next(pair.glob("mmproj*.gguf"))
    (tmp_path / "model").mkdir()
    alone = shutil.copy(text, tmp_path / "model")
    shutil.copy(encoder, tmp_path / "elsewhere.gguf")
    seen = []

    def nothing(*_: Any, gpu_layers: Any, mmprojs: list[str]) -> list[Setting]:
        seen.append(mmprojs)
        return []

    monkeypatch.setattr("miloco_edge.cli.tune.settings_for", nothing)
    given: list[dict[str, Any]] = []

    def load(ref: str, **options: Any) -> Engine:
        given.append(options)
        raise ModelLoadError("enough")

    monkeypatch.setattr(Engine, "load", load)
    asked = [str(alone), "--mmproj", str(tmp_path / "elsewhere.gguf")]
    result = CliRunner().invoke(tune_command, asked, obj=Output())
    assert isinstance(result.exception, ModelLoadError)
    assert given[0]["mmproj"] == tmp_path / "elsewhere.gguf" and given[0]["profile"] is False
    assert seen == [[]], "what is named is not traded for another"
