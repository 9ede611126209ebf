"""Quantizing with an imatrix: what it changes, what is written of it, which are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from benchmarks.synthesize import TINY, synthesize
from miloco_edge.cli.main import main
from quantize import quantize
from quantize.errors import ImatrixError, NotFoundError, RecipeError
from quantize.imatrix import Entry, Imatrix, write_imatrix


def entries(pair: Path) -> dict[str, Entry]:
    """Importances of all weights of a BF16 pair."""
    random = np.random.default_rng(5)
    return {
        tensor.name: Entry(random.exponential(1, int(tensor.shape[0])).astype(np.float32) ** 4, 10)
        for path in sorted(pair.glob("*.gguf"))
        for tensor in gguf.GGUFReader(path).tensors
        if len(tensor.shape) == 2
    }


@pytest.fixture
def known(pair: Path) -> dict[str, Entry]:
    return entries(pair)


def write(folder: Path, entries: Mapping[str, Entry], name: str = "imatrix.gguf") -> Path:
    write_imatrix(folder / name, Imatrix(entries, ("porch", "hall"), 12, 512))
    return folder / name


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.gguf")}


def test_it_guides_both_files_and_is_recorded(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, known)
    plain = quantize(checkpoint, tmp_path / "plain", recipe="q4_k_m", mmproj_type="q4_0")
    made = quantize(
        checkpoint, tmp_path / "guided", recipe="q4_k_m", mmproj_type="q4_0", imatrix=path
    )
    assert not caplog.records
    document = json.loads((tmp_path / "guided" / "tiny-q4_k_m.manifest.json").read_text())
    assert document["imatrix"] == {
        "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "datasets": ["porch", "hall"], "chunks": 12,
    }  # fmt: skip
    assert plain.imatrix is None
    for output in made.outputs:
        unguided = gguf.GGUFReader(tmp_path / "plain" / output.file)
        guided = gguf.GGUFReader(tmp_path / "guided" / output.file)
        wrote = {
            key.rpartition(".")[2]: field.contents()
            for key, field in guided.fields.items()
            if key.startswith("quantize.imatrix.")
        }
        assert wrote == {
            "file": str(path)[:127], "dataset": "porch", "entries_count": len(known),
            "chunks_count": 12,
        }  # fmt: skip
        for before, after in zip(unguided.tensors, guided.tensors, strict=True):
            changed = before.data.tobytes() != after.data.tobytes()
            assert changed is (len(before.shape) == 2), before.name


def test_errors_are_smaller_where_they_matter(
    checkpoint: Path, pair: Path, known: dict[str, Entry], tmp_path: Path
) -> None:
    path = write(tmp_path, known)
    quantize(checkpoint, tmp_path / "plain", recipe="q4_0", mmproj_type="q4_0")
    quantize(checkpoint, tmp_path / "guided", recipe="q4_0", mmproj_type="q4_0", imatrix=path)
    exact = next(p for p in pair.glob("*.gguf") if not p.name.startswith("mmproj"))
    weights = [
        {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
        for path in (exact, tmp_path / "plain/tiny-q4_0.gguf", tmp_path / "guided/tiny-q4_0.gguf")
    ]
    for name in ("blk.0.attn_q.weight", "blk.2.ffn_up.weight", "token_embd.weight"):
        want, plain, guided = (file[name] for file in weights)
        before, after = (
            float(((got - want) ** 2 * known[name].sums).sum()) for got in (plain, guided)
        )
        assert after < 0.9 * before, name


def test_a_bf16_file_says_nothing_of_it(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, known)
    quantize(checkpoint, tmp_path / "plain", recipe="bf16")
    quantize(checkpoint, tmp_path / "guided", recipe="bf16", imatrix=path)
    assert files(tmp_path / "plain") == files(tmp_path / "guided")
    assert "is not used: this recipe quantizes nothing" in caplog.text


def test_weights_that_it_does_not_know_are_counted(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_text = {name: e for name, e in known.items() if name.startswith("blk.")}
    del of_text["blk.1.attn_k.weight"], of_text["blk.2.attn_k.weight"]
    path = write(tmp_path, of_text)
    quantize(checkpoint, tmp_path, recipe="q4_k_m", imatrix=path, dry_run=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "nothing of 2 weights of the text file, the first blk.1.attn_k.weight" in caplog.text
    caplog.clear()
    quantize(checkpoint, tmp_path, mmproj_type="q4_0", imatrix=path, dry_run=True)
    assert "nothing of 30 weights of the mmproj file, the first mm.0.weight" in caplog.text


def test_a_type_that_is_garbage_without_is_refused_without(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path
) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text('[text]\ndefault="IQ3_XXS"')
    with pytest.raises(RecipeError, match=r"blk.0.attn_k.weight, which is to be IQ3_XXS"):
        quantize(checkpoint, tmp_path / "out", recipe=str(recipe))
    del known["blk.1.ffn_up.weight"]
    with pytest.raises(RecipeError, match=r"blk.1.ffn_up.weight"):
        quantize(checkpoint, tmp_path / "out", recipe=str(recipe), imatrix=write(tmp_path, known))
    assert not (tmp_path / "out").exists()
    known["blk.1.ffn_up.weight"] = known["blk.1.ffn_gate.weight"]
    made = quantize(
        checkpoint, tmp_path / "out", recipe=str(recipe), imatrix=write(tmp_path, known)
    )
    assert made.outputs[0].bpw < 3.3


def test_one_of_another_model_is_refused(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path
) -> None:
    for change, message in (
        ({"blk.0.attn_q.weight": Entry(np.ones(255, np.float32), 1)},
         "expected 256 importances of blk.0.attn_q.weight, got 255"),
        ({"blk.0.ffn_down.weight": Entry(np.ones(768, np.float32), 1)},
         "expected 512 importances of blk.0.ffn_down.weight, got 768"),
        ({"v.blk.0.ffn_down.weight": Entry(np.ones(768, np.float32), 1)},
         "expected 512 importances of v.blk.0.ffn_down.weight, got 768"),
        ({"blk.3.attn_q.weight": Entry(np.ones(256, np.float32), 1)},
         r"this model's weights alone, got blk.3.attn_q.weight \(1 unknown\)"),
    ):  # fmt: skip
        path = write(tmp_path, known | change)
        with pytest.raises(ImatrixError, match=message) as raised:
            quantize(checkpoint, tmp_path / "out", imatrix=path)
        assert raised.value.path == path
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_one_with_numbers_that_are_none_is_refused(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path, bad: float
) -> None:
    known["blk.0.attn_q.weight"].sums[7] = bad
    with pytest.raises(ImatrixError, match=r"expected blk.0.attn_q.weight finite"):
        quantize(checkpoint, tmp_path / "out", imatrix=write(tmp_path, known))


@pytest.mark.parametrize("peak", [0.0, 1e30])
def test_one_whose_inputs_cannot_be_is_refused(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path, peak: float
) -> None:
    """Encoders would answer with zeros, or abort."""
    known["blk.0.attn_q.weight"] = Entry(np.full(256, peak, np.float32), 10)
    with pytest.raises(ImatrixError, match=r"inputs of blk.0.attn_q.weight with a mean square"):
        quantize(checkpoint, tmp_path / "out", imatrix=write(tmp_path, known))


def test_a_block_of_inputs_that_were_never_seen_is_warned_of(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known["blk.0.attn_q.weight"].sums[64:96] = 0
    known["blk.1.attn_q.weight"].sums[60:90] = 0
    known["blk.2.attn_q.weight"] = Entry(np.zeros(256, np.float32), 0)
    quantize(checkpoint, tmp_path, imatrix=write(tmp_path, known), dry_run=True)
    assert (
        "of 1 weights were zero throughout, 32 in a row, the first of blk.0.attn_q" in caplog.text
    )


def test_the_command_says_so_with_its_exit_codes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.gguf").write_text("nothing of the kind")
    for name, code in (("none.gguf", 3), ("text.gguf", 4)):
        with pytest.raises(SystemExit) as raised:
            main(["quantize", str(checkpoint), "--imatrix", str(tmp_path / name), "--dry-run"])
        assert raised.value.code == code
        assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(NotFoundError, match="expected an imatrix"):
        quantize(checkpoint, tmp_path, imatrix=tmp_path / "none.gguf")


def test_padded_and_plain_vision_towers_share_an_imatrix(tmp_path: Path) -> None:
    """Calibrated on either, used for either: what is padded sees zeros."""
    folder = synthesize(tmp_path / "odd", replace(TINY, vit_intermediate_size=480))
    quantize(folder, tmp_path / "bf16", recipe="bf16")
    known = entries(tmp_path / "bf16")
    wide = {
        name: Entry(np.pad(e.sums, (0, 32)), e.count) if len(e.sums) == 480 else e
        for name, e in known.items()
    }
    assert sum(len(e.sums) == 512 and name.startswith("v.") for name, e in wide.items()) == 4
    one = write(tmp_path, known, "plain.gguf")
    other = write(tmp_path, wide, "padded.gguf")
    for recipe in ("edge-x86", "q4_k_m"):
        made = [
            quantize(
                folder, tmp_path / f"{recipe}{i}", recipe=recipe, mmproj_type=recipe, imatrix=p
            )
            for i, p in enumerate((one, other))
        ]
        assert [t.rmse for t in made[0].tensors] == [t.rmse for t in made[1].tensors]


def test_runs_into_one_folder_at_once_do_not_mix(
    checkpoint: Path, known: dict[str, Entry], tmp_path: Path
) -> None:
    path, out = write(tmp_path, known), tmp_path / "out"
    out.mkdir()

    def run(number: int) -> None:
        quantize(checkpoint, out, recipe="q4_0", imatrix=path if number % 2 else None, threads=1)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(run, range(10)))
    assert sorted(p.name for p in out.iterdir()) == [
        "mmproj-tiny-bf16.gguf", "tiny-q4_0.gguf", "tiny-q4_0.manifest.json",
    ]  # fmt: skip
    document = json.loads((out / "tiny-q4_0.manifest.json").read_text())
    for output in document["outputs"]:
        raw = (out / output["file"]).read_bytes()
        assert output["sha256"] == hashlib.sha256(raw).hexdigest()
