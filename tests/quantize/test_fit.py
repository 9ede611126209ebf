"""Pairs that fit a size: exact sizes, the least loss, devices, sensitivities, and the command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from PIL import Image

from benchmarks.synthesize import TINY, synthesize
from miloco_edge.cli.main import main
from miloco_edge.llama import kernels
from quantize import Manifest, expected_loss, quantize
from quantize.checkpoint import open_checkpoint
from quantize.codec import Type
from quantize.devices import ANY, CANDIDATES, DEVICES, Device, Speed, measured
from quantize.errors import BudgetError, NotFoundError, RecipeError
from quantize.expected_loss import Trial, expected_losses
from quantize.fit_report import FitReport
from quantize.imatrix import Entry, Imatrix, write_imatrix
from quantize.names import File
from quantize.plan import survey
from quantize.recipes import NAMES


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_loss, "SAMPLED", 1 << 12)


def dry(checkpoint: Path, budget: str, **options: object) -> Manifest:
    return quantize(checkpoint, Path(), budget=budget, dry_run=True, **options)  # type: ignore[arg-type]


def fitted(manifest: Manifest) -> FitReport:
    assert manifest.fit is not None
    return manifest.fit


def types(manifest: Manifest) -> dict[str, str]:
    return {tensor.name: tensor.type for tensor in manifest.tensors}


def share_of(weight: str) -> float:
    """Attention and FFN of three and of four layers; the rest counts whole."""
    if weight.startswith("blk."):
        return 1 / 6
    return 1 / 8 if weight.startswith("v.blk.") else 1.0


def test_both_files_together_take_what_the_manifest_says(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = quantize(checkpoint, tmp_path, budget="5MiB")
    fit = fitted(made)
    paths = [tmp_path / "tiny-fit-5MiB.gguf", tmp_path / "mmproj-tiny-fit-5MiB.gguf"]
    assert sum(path.stat().st_size for path in paths) == fit.spent
    assert 5 * 2**20 * 0.999 < fit.spent <= fit.budget == 5 * 2**20
    assert "without an imatrix" in caplog.text
    document = json.loads((tmp_path / "tiny-fit-5MiB.manifest.json").read_text())
    assert document["recipe"] == "fit-5MiB"
    assert document["fit"] == json.loads(json.dumps(made.to_json()))["fit"]
    stored = {t.name: t.tensor_type.name for p in paths for t in gguf.GGUFReader(p).tensors}
    assert stored == types(made)
    assert sum(fit.losses.values()) == pytest.approx(fit.loss)
    assert sum(group.loss for group in fit.groups) == pytest.approx(fit.loss)
    weights = {t.name: t for t in made.tensors if len(t.shape) == 2}
    assert fit.losses.keys() == weights.keys()
    assert sum(sum(group.types.values()) for group in fit.groups) == len(weights)
    assert sum(group.bytes for group in fit.groups) == sum(t.bytes for t in weights.values())
    for tensor in weights.values():  # what was expected is what came of it
        share = share_of(tensor.name)
        assert tensor.nmse == pytest.approx(fit.losses[tensor.name] / share, rel=0.25, abs=1e-6)


def test_a_dry_run_and_a_second_run_say_the_same(checkpoint: Path, tmp_path: Path) -> None:
    plain = dry(checkpoint, "5.5MB")
    runs = [quantize(checkpoint, tmp_path / str(n), budget="5.5MB", threads=n) for n in (1, 3)]
    assert types(plain) == types(runs[0]) == types(runs[1])
    assert runs[0].outputs == runs[1].outputs
    assert replace(fitted(runs[0]), seconds=0) == replace(fitted(plain), seconds=0)
    assert not (Path() / "tiny-fit-5.5MB.gguf").exists()


def test_no_mixture_of_the_same_size_or_less_has_less_loss(checkpoint: Path) -> None:
    source = open_checkpoint(checkpoint)
    every = survey(source, None)
    tensors = {t.name: t for c in (every.text(), every.mmproj(1)) for t in c.weights}
    trials = [Trial(t, CANDIDATES, None, share_of(t.name)) for t in tensors.values()]
    found = expected_losses(source, trials, threads=2, progress=None)
    table = dict(zip(tensors, found, strict=True))
    compared = 0
    for name in NAMES:
        if name == "f16":  # it overflows, and is no candidate
            continue
        for mmproj in {name, "bf16"}:
            mixture = quantize(checkpoint, Path(), recipe=name, mmproj_type=mmproj, dry_run=True)
            size = sum(output.bytes for output in mixture.outputs)
            loss = sum(table[n][Type[t]] for n, t in types(mixture).items() if n in table)
            fit = fitted(dry(checkpoint, str(size)))
            assert fit.spent <= size
            assert fit.loss - fit.gap <= loss + 1e-12
            assert fit.loss <= loss + 1e-12, (name, mmproj)
            compared += fit.loss < 0.999 * loss
    assert compared > 10


def test_the_smallest_pair_is_possible_and_a_byte_less_is_not(checkpoint: Path) -> None:
    with pytest.raises(BudgetError, match="the smallest possible pair") as raised:
        dry(checkpoint, "1MB")
    error = raised.value
    assert error.budget == 10**6 and str(error.smallest) in str(error) and error.hint
    assert fitted(dry(checkpoint, str(error.smallest))).spent == error.smallest
    with pytest.raises(BudgetError):
        dry(checkpoint, str(error.smallest - 1))


def test_a_budget_beyond_the_largest_takes_the_largest_and_says_so(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit = fitted(dry(checkpoint, "1GiB"))
    assert fit.is_largest and fit.loss == 0
    assert "the largest pair" in caplog.text
    assert fit.spent == sum(o.bytes for o in quantize(
        checkpoint, Path(), recipe="bf16", dry_run=True).outputs)  # fmt: skip
    assert not fitted(dry(checkpoint, "6MiB")).is_largest


def test_an_odd_ffn_is_padded_where_that_pays(tmp_path: Path) -> None:
    odd = synthesize(tmp_path / "odd", replace(TINY, vit_intermediate_size=420))
    small = quantize(odd, tmp_path, budget="5MB", device=DEVICES["x86"])
    assert fitted(small).pad_ffn == 256
    assert all("F16" not in type for type in types(small).values())
    down = next(t for t in small.tensors if t.name == "v.blk.0.ffn_down.weight")
    assert down.shape == (256, 512)
    large = dry(odd, "1GiB")
    assert fitted(large).pad_ffn == 1
    assert types(large)["v.blk.0.ffn_down.weight"] == "BF16"


def test_an_mmproj_type_stands_as_it_is(checkpoint: Path) -> None:
    made = dry(checkpoint, "11MB", mmproj_type="bf16")
    assert [o.file for o in made.outputs] == ["tiny-fit-11MB.gguf", "mmproj-tiny-bf16.gguf"]
    assert {t for n, t in types(made).items() if n.startswith("v.blk") and "attn_q.w" in n} == {
        "BF16"
    }
    assert fitted(made).spent == sum(o.bytes for o in made.outputs) <= 11_000_000
    with pytest.raises(BudgetError):
        dry(checkpoint, "5MB", mmproj_type="bf16")


def write_imatrix_of(pair: Path, path: Path, loud: str) -> Path:
    random = np.random.default_rng(5)
    entries = {
        tensor.name: Entry(random.exponential(1, int(tensor.shape[0])).astype(np.float32) ** 3, 10)
        for file in sorted(pair.glob("*.gguf"))
        for tensor in gguf.GGUFReader(file).tensors
        if len(tensor.shape) == 2 and tensor.name not in ("token_embd.weight", "output.weight")
    }
    write_imatrix(path, Imatrix(entries, (loud,), 3, 512))
    return path


def test_an_imatrix_weighs_the_losses_and_unlocks_iq3_xxs(
    checkpoint: Path, pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_imatrix_of(pair, tmp_path / "imatrix.gguf", "porch")
    plain = dry(checkpoint, "3.6MB")
    caplog.clear()
    guided = quantize(checkpoint, tmp_path, budget="3.6MB", imatrix=path)
    assert "without an imatrix" not in caplog.text
    assert "IQ3_XXS" not in types(plain).values()
    assert "IQ3_XXS" in types(guided).values()
    assert types(guided)["token_embd.weight"] != "IQ3_XXS"
    assert guided.imatrix is not None and guided.imatrix.datasets == ("porch",)
    sizes = [(tmp_path / output.file).stat().st_size for output in guided.outputs]
    assert sum(sizes) == fitted(guided).spent <= 3_600_000


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_has_the_types_that_it_is_fast_with(checkpoint: Path, name: str) -> None:
    device = DEVICES[name]
    made = dry(checkpoint, "11MB" if name == "metal" else "6MB", device=device)
    fit = fitted(made)
    assert fit.device == name
    for tensor, type in types(made).items():
        if tensor in fit.losses and tensor != "token_embd.weight":
            file: File = "mmproj" if tensor.startswith(("v.", "mm.")) else "text"
            assert Type[type] in device.allowed[file]
    for file, allowed in device.allowed.items():
        refused = {each.type for each in fit.refused if each.file == file}
        assert refused == {type.name for type in CANDIDATES if type not in allowed}


def test_devices_agree_with_the_edge_recipes(checkpoint: Path) -> None:
    for name, device in DEVICES.items():
        edge = quantize(checkpoint, Path(), recipe=f"edge-{name}", dry_run=True)
        for tensor in edge.tensors:
            if len(tensor.shape) == 2:
                file: File = "mmproj" if tensor.name.startswith(("v.", "mm.")) else "text"
                assert Type[tensor.type] in device.allowed[file], (name, tensor.name)


def test_the_embedding_is_looked_up_and_may_be_of_any_type(checkpoint: Path) -> None:
    slow = Device("slow", {"text": frozenset({Type.BF16}), "mmproj": frozenset({Type.BF16})})
    made = dry(checkpoint, "13.3MB", device=slow)
    assert types(made)["token_embd.weight"] == "Q8_0"
    assert types(made)["output.weight"] == "BF16"
    with pytest.raises(BudgetError):
        dry(checkpoint, "12MB", device=slow)


SPEEDS = {
    "Q2_K": (105, 44), "Q3_K": (101, 29), "Q4_K": (123, 39), "Q5_K": (122, 25), "Q6_K": (96, 34),
    "Q8_0": (55, 25), "Q4_0": (47, 24), "Q4_1": (21, 16), "Q5_0": (45, 19), "Q5_1": (20, 12),
    "IQ4_NL": (45, 22), "IQ4_XS": (121, 25), "IQ3_S": (111, 9.5), "IQ3_XXS": (110, 11),
    "BF16": (96, 16),
}  # fmt: skip
"""Of an AVX-512 server core."""


def test_types_slower_than_half_of_comparable_ones_are_refused() -> None:
    speeds = {name: Speed(*each) for name, each in SPEEDS.items()}
    device = measured("auto", {"text": speeds, "mmproj": speeds})
    tiled = {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "BF16"}
    assert {type.name for type in device.allowed["text"]} == tiled
    # Nobody decodes with a vision tower.
    assert {t.name for t in device.allowed["mmproj"]} == tiled | {"IQ3_S", "IQ3_XXS"}
    reasons = {(each.file, each.type): each.reason for each in device.refused}
    assert reasons["text", "Q8_0"] == "prefill 55, where Q4_K reaches 123 GMAC/s"
    assert reasons["text", "IQ3_S"] == "decode 9.5, where Q4_K reaches 39 GMAC/s"
    assert measured("x", {"text": {"Q4_K": Speed(1, 1)}}).allowed["text"] == {Type.Q4_K}
    assert len(ANY.refused) == 0


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def bits(manifest: Manifest, like: str) -> float:
    chosen = [t for t in manifest.tensors if like in t.name and len(t.shape) == 2]
    return sum(t.bytes for t in chosen) * 8 / sum(np.prod(t.shape) for t in chosen)


def test_sensitivities_multiply_the_losses(checkpoint: Path, tmp_path: Path) -> None:
    plain = dry(checkpoint, "5MiB")
    path = write(tmp_path / "s.json", {"ffn_down": 4, "blk.*": 2.5, "v.blk.1.*": 0.01})
    made = dry(checkpoint, "5MiB", sensitivity=path)
    assert bits(made, "ffn_down") > bits(plain, "ffn_down")
    assert bits(made, "v.blk.1.attn") < bits(plain, "v.blk.1.attn")
    assert fitted(made).sensitivity is not None
    same = dry(checkpoint, "1GiB", sensitivity=path)
    assert types(same) == types(dry(checkpoint, "1GiB"))
    everywhere = dry(checkpoint, "5MiB", sensitivity=write(tmp_path / "e.json", {"*": 3}))
    assert types(everywhere) == types(plain)
    assert fitted(everywhere).loss == pytest.approx(3 * fitted(plain).loss)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a JSON object, got"),
        ("[1]", "expected an object of names and factors"),
        ({}, "expected an object of names and factors"),
        ({"attn_w": 2}, "expected 'attn_w' to match weights of this model, got none"),
        ({"blk.3.*": 2}, "expected 'blk.3.*' to match"),
        ({"blk.0.attn_norm.weight": 2}, "to match weights of this model"),
        ({"output": 0}, "expected a number above 0 for 'output', got 0"),
        ({"output": -1.5}, "above 0"),
        ({"output": "2"}, "above 0"),
        ({"output": True}, "above 0"),
        ('{"output": NaN}', "above 0"),
        ('{"output": Infinity}', "above 0"),
        ('{"output": 1, "output": 2}', "a name that occurs twice"),
        ("[" * 100_000, "expected a JSON object, got"),
    ],
)
def test_sensitivities_that_make_no_sense_are_refused(
    checkpoint: Path, tmp_path: Path, content: object, message: str
) -> None:
    path = write(tmp_path / "s.json", content)
    with pytest.raises(RecipeError) as raised:
        dry(checkpoint, "5MiB", sensitivity=path)
    assert message in str(raised.value) and raised.value.hint
    with pytest.raises(NotFoundError, match="expected sensitivities here"):
        dry(checkpoint, "5MiB", sensitivity=tmp_path / "none.json")


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as raised:
        main(["quantize", *map(str, arguments)])
    return int(raised.value.code or 0)


def test_the_command_shows_what_was_given_up_and_draws_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plot.png"
    options = ("--budget", "5MiB", "--device", "x86", "--out", tmp_path, "--plot", plot)
    assert run(checkpoint, *options, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert "tiny-fit-5MiB.gguf" in out and "v.blk.*.ffn_down" in out
    assert "the least possible" in out
    assert "refused for mmproj on x86: Q4_0 (slower than types of its bits (edge-x86))" in err
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    with Image.open(plot) as picture:
        assert picture.format == "PNG" and picture.width > 400
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 4


def test_auto_measures_this_machine(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def speeds(types: list[str], *, repack: bool) -> Mapping[str, kernels.KernelSpeed]:
        asked.append(repack)
        return {type: kernels.KernelSpeed(*SPEEDS[type]) for type in types}

    monkeypatch.setattr(kernels, "kernel_speeds", speeds)
    assert run(checkpoint, "--budget", "5MiB", "--dry-run", "--json") == 0
    fit = json.loads(capsys.readouterr().out)["fit"]
    assert asked[0] is False
    assert fit["device"] == "auto"
    refused = {(each["file"], each["type"]) for each in fit["refused"]}
    assert ("text", "Q8_0") in refused and ("mmproj", "Q4_0") in refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "5XB"), "expected a size like 4.5GiB"),
        (("--budget", "5MiB", "--recipe", "q4_0"), "leave out --recipe"),
        (("--budget", "5MiB", "--device", "toaster"), "'toaster' is not one of 'auto', 'x86'"),
        (("--device", "x86"), "--device needs a --budget"),
        (("--sensitivity", "s.json"), "--sensitivity needs a --budget"),
        (("--plot", "p.png"), "--plot needs a --budget"),
        (("--budget", "5MiB", "--plot", "nowhere/p.png"), "expected a folder nowhere"),
    ],
)
def test_options_that_do_not_fit_together_are_usage_errors(
    checkpoint: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, *options, "--dry-run") == 2
    assert message in capsys.readouterr().err


def test_an_impossible_budget_is_refused_input(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--budget", "1MB", "--device", "cuda", "--out", tmp_path / "out")
    assert run(checkpoint, *options) == 4
    err = capsys.readouterr().err
    assert "expected a budget of at least" in err and "hint: give a larger --budget" in err
    assert not (tmp_path / "out").exists()


def test_a_budget_overrides_a_recipe_that_is_configured(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILOCO_EDGE_QUANTIZE_RECIPE", "q4_k_m")
    options = ("--budget", "5MiB", "--device", "x86", "--out", tmp_path, "--dry-run")
    assert run(checkpoint, *options) == 0
