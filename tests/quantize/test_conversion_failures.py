"""What goes wrong leaves nothing behind: no file under a final name, none under a temporary one."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthesize import TINY, synthesize
from quantize import outputs, quantize
from quantize.errors import CheckpointError, NotFoundError, QuantizeError, RecipeError
from quantize.safetensors import Stored, read_header


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "copy")


def find(folder: Path, name: str) -> Stored:
    return next(t for t in read_header(folder / "model.safetensors") if t.name == name)


def poke(folder: Path, name: str, weight: int, bits: int) -> None:
    """Overwrite one BF16 weight of the checkpoint."""
    tensor = find(folder, name)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(tensor.offset + 2 * weight)
        file.write(bits.to_bytes(2, "little"))


def rewrite_header(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text = change(raw[8 : 8 + length].decode()).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("recipe", ["bf16", "q4_0"])
@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.down_proj.weight", "visual.merger.ln_q.weight"]
)
def test_weights_that_are_no_numbers_are_refused_by_name(
    copy: Path, tmp_path: Path, name: str, bits: int, recipe: str
) -> None:
    poke(copy, name, 7, bits)
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match=re.escape(name)) as raised:
        quantize(copy, out, recipe=recipe)
    assert raised.value.hint
    assert list(out.iterdir()) == []


def test_a_weight_too_large_for_f16_is_refused_by_name(copy: Path, tmp_path: Path) -> None:
    poke(copy, "model.layers.0.mlp.up_proj.weight", 0, 0x4F80)  # 2**32
    with pytest.raises(CheckpointError, match=r"F16, got larger ones in blk\.0\.ffn_up\.weight"):
        quantize(copy, tmp_path / "out", recipe="f16")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: h.replace("layers.1.mlp.up_proj", "layers.1.mlp.other"), "up_proj"),
        (lambda h: h.replace("layers.1.mlp.up_proj", "layers.9.mlp.up_proj"), r"layers\.1"),
        (lambda h: h.replace("[512, 256]", "[256, 512]", 1), r"shape \(512, 256\)"),
        (lambda h: h.replace('"BF16"', '"I16"', 1), "BF16, F16 or F32"),
    ],
)
def test_a_tensor_that_is_missing_or_wrong_is_named(
    copy: Path, tmp_path: Path, change: Callable[[str], str], says: str
) -> None:
    rewrite_header(copy, change)
    with pytest.raises(CheckpointError, match=says):
        quantize(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "name", "value", "says"),
    [
        ("config.json", "rms_norm_eps", "small", "rms_norm_eps"),
        ("config.json", "rms_norm_eps", float("inf"), "rms_norm_eps"),
        ("config.json", "rope_scaling", {"type": "yarn", "mrope_section": [16, 24, 24]}, "yarn"),
        ("config.json", "rope_scaling", {"type": "mrope", "mrope_section": [16, 24]}, "sections"),
        ("config.json", "rope_scaling", {"type": "mrope", "mrope_section": [1, 2, 3]}, "up to 64"),
        ("config.json", "rope_scaling", [], "sections"),
        ("config.json", "max_position_embeddings", 1 << 40, r"UINT32 as qwen2vl\.context_length"),
        ("generation_config.json", "temperature", "hot", r"FLOAT32 as general\.sampling\.temp"),
        ("preprocessor_config.json", "image_mean", [0.5], "image_mean"),
        ("preprocessor_config.json", "image_std", ["a", "b", "c"], r"three numbers as image_std"),
    ],
)
def test_settings_that_no_gguf_can_hold_are_named(
    copy: Path, tmp_path: Path, file: str, name: str, value: object, says: str
) -> None:
    settings = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(settings | {name: value}))
    with pytest.raises(CheckpointError, match=says):
        quantize(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_card_that_is_no_yaml_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "README.md").write_text("---\n: : {\n---\n")
    with pytest.raises(CheckpointError, match=r"README\.md: expected a model card"):
        quantize(copy, tmp_path / "out")


def test_a_tensor_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tied", TINY)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"got model\.layers\.2\.input_layernorm"):
        quantize(folder, tmp_path / "out")


def test_a_checkpoint_without_output_that_is_not_tied_is_refused(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tied", TINY, tied=True)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        quantize(folder, tmp_path / "out")


def test_a_truncated_shard_is_refused(copy: Path, tmp_path: Path) -> None:
    os.truncate(copy / "model.safetensors", (copy / "model.safetensors").stat().st_size - 1)
    with pytest.raises(CheckpointError, match="bytes, got"):
        quantize(copy, tmp_path / "out")


def test_a_shard_that_shrinks_meanwhile_is_refused(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncated(folder: Path, needed: int) -> None:
        os.truncate(copy / "model.safetensors", 1_000_000)

    monkeypatch.setattr("quantize.pipeline.check_space", truncated)
    with pytest.raises(CheckpointError, match="it changed"):
        quantize(copy, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_recipe_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="q9_9"):
        quantize(checkpoint, tmp_path, recipe="q9_9")
    with pytest.raises(RecipeError, match="q9_9"):
        quantize(checkpoint, tmp_path, mmproj_type="q9_9")


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        quantize(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_space_is_said_beforehand(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(QuantizeError, match="GiB free") as raised:
        quantize(checkpoint, tmp_path / "out")
    assert raised.value.hint
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def pwrite(file: int, data: memoryview, offset: int) -> int:
        nonlocal written
        written += len(data)
        if written > 2_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data, offset)

    real = os.pwrite
    monkeypatch.setattr(outputs.os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space left") as raised:
        quantize(checkpoint, tmp_path / "out")
    assert raised.value.filename.endswith(".gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_is_full_at_the_manifest_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def fsync(file: int) -> None:
        nonlocal count
        count += 1
        if count == 3:  # both files of the pair are on the disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        quantize(checkpoint, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_a_folder_need_not_be_named_in_utf8(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    made = quantize(shutil.copytree(checkpoint, folder / "tiny"), folder / "out")
    written = json.loads((folder / "out" / "tiny-q4_0.manifest.json").read_text())
    assert written["source"]["path"] == made.source.path == str(folder / "tiny")


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_files_are_named_all_or_none(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, older: bool
) -> None:
    out, count = tmp_path / "out", 0
    if older:
        quantize(checkpoint, out)
    before = {path: path.stat().st_ino for path in out.iterdir()} if older else {}

    def failing(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, target)

    real = Path.replace
    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="Input/output"):
        quantize(checkpoint, out)
    assert {path: path.stat().st_ino for path in out.iterdir()} == before


def test_older_files_survive_a_failure(copy: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quantize(shutil.copytree(checkpoint, tmp_path / "first" / "copy"), out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    poke(copy, "lm_head.weight", 0, 0x7FC0)
    with pytest.raises(CheckpointError):
        quantize(copy, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


SLOW = """
import sys, time
from miloco_edge.cli.main import main
from quantize import stream

real = stream._convert

def announcing(*arguments):
    print("converting", flush=True)
    time.sleep(0.2)  # for each of the hundred and more slabs
    return real(*arguments)

stream._convert = announcing
main(["quantize", sys.argv[1], "--out", sys.argv[2], "--threads", "1"])
"""


def test_ctrl_c_in_the_middle_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(checkpoint), str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "converting\n"
    assert len(list(out.iterdir())) == 2
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.split("\n")[-3:] == ["error: interrupted", "hint: run the same command again", ""]
    assert list(out.iterdir()) == []


def test_a_run_that_was_killed_is_cleaned_up_by_the_next(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(checkpoint), str(out)],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "converting\n"
        quantize(checkpoint, out)  # at the same time: it leaves the other's files alone
        named = {path.name for path in out.iterdir() if not path.name.startswith(".")}
        assert len(named) == 3
        assert len(list(out.iterdir())) == 5
        process.kill()
    quantize(checkpoint, out)
    assert {path.name for path in out.iterdir()} == named


def test_a_limit_on_file_size_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import resource, sys; from miloco_edge.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "main(['quantize', sys.argv[1], '--out', sys.argv[2]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "File too large" in done.stderr
    assert list(out.iterdir()) == []


def test_memory_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    """One tensor of 256 MB in F32 is read in slabs, in a process that may hold little."""
    shape = replace(TINY, vocab_size=250_000, num_hidden_layers=1)
    folder = synthesize(tmp_path / "tall", shape, dtype="F32", tied=True)
    assert find(folder, "model.embed_tokens.weight").nbytes == 256_000_000
    code = (
        "import sys; from pathlib import Path; from quantize import quantize\n"
        "small, tall, out = map(Path, sys.argv[1:])\n"
        "before = quantize(small, out, threads=2).peak_rss_bytes\n"
        "print(quantize(tall, out, threads=2).peak_rss_bytes - before)"
    )
    small = synthesize(
        tmp_path / "small", replace(shape, vocab_size=20_000), dtype="F32", tied=True
    )
    command = [sys.executable, "-c", code, str(small), str(folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # A quarter of a million tokens' texts are held; their weights are not.
    assert int(done.stdout) < 250_000_000
    assert np.isfinite(int(done.stdout))
