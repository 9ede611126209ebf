"""Bad input, from the command line: its exit code, one line that says it, and a hint."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.synthesize import TINY, synthesize
from miloco_edge.cli.errors import report
from miloco_edge.cli.main import main
from miloco_edge.registry import read_header
from quantize import outputs, quantize
from tests.video.conftest import WriteVideo, numbered
from tests.video.conftest import write_video as write_video


class Refusal:
    """Runs a command that must fail, and holds what it said to what every error says."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *args: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, args), "--json"])
        out, err = self._capfd.readouterr()
        error = json.loads(out)["error"]
        assert "\n" not in error["message"]
        said = err.splitlines()
        assert said[-2:] == [f"error: {error['message']}", f"hint: {error['hint']}"]
        assert "Traceback" not in err
        assert isinstance(ended.value.code, int)
        return ended.value.code, error["type"]


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capfd)


@pytest.fixture
def video(write_video: WriteVideo) -> Path:
    return write_video(30)


def audio(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\1" * 8000)


def test_media(refusal: Refusal, pair: Path, write_video: WriteVideo, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    whole = write_video(50, name="whole.mp4").read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    frames = write_video(10).read_bytes()
    (tmp_path / "no frames.avi").write_bytes(frames[: frames.index(b"movi") + 4])
    audio(tmp_path / "audio.wav")
    Image.fromarray(numbered(7)).save(tmp_path / "whole.jpg")
    picture = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(picture[: len(picture) // 2])
    infer = ("infer", "--model", pair, "--threads", 1)
    missing = tmp_path / "missing"
    assert refusal(*infer, "--video", missing) == (3, "MediaNotFoundError")
    assert refusal(*infer, "--image", missing) == (3, "MediaNotFoundError")
    for name in ("empty.mp4", "truncated.mp4", "no frames.avi", "audio.wav"):
        assert refusal(*infer, "--video", tmp_path / name) == (4, "MediaError"), name
    for name in ("empty.mp4", "truncated.jpg", "audio.wav"):
        assert refusal(*infer, "--image", tmp_path / name) == (4, "MediaError"), name


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def flip(path: Path, place: int) -> None:
    """Flip one bit of the byte at `place`."""
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 2]))


def rename(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert len(old) == len(new) and old in content
    path.write_bytes(content.replace(old, new, 1))


def spoil(path: Path, name: str) -> None:
    """Write NaN over some BF16 weights."""
    header = read_header(path)
    tensor = next(tensor for tensor in header.tensors if tensor.name == name)
    with path.open("r+b") as file:
        file.seek(header.data_offset + tensor.offset)
        file.write(b"\xc0\x7f" * 64)


def widen(mmproj: Path) -> None:
    """Put the mmproj of a wider language model in its place."""
    folder = mmproj.parent / "wider"
    wider = synthesize(folder / "wide", replace(TINY, hidden_size=512, num_attention_heads=4))
    quantize(wider, folder, recipe="bf16")
    shutil.copy(next(folder.glob("mmproj*")), mmproj)


Damage = Callable[[Path, Path], object]
DAMAGES: dict[str, tuple[Damage, int, str]] = {
    "text cut": (lambda text, _: cut(text), 4, "GGUFError"),
    "mmproj cut": (lambda _, mmproj: cut(mmproj), 4, "GGUFError"),
    "magic": (lambda text, _: flip(text, 0), 4, "GGUFError"),
    "version": (lambda text, _: flip(text, 4), 4, "GGUFError"),
    "number of tensors": (lambda text, _: flip(text, 8), 4, "GGUFError"),
    "number of keys": (lambda _, mmproj: flip(mmproj, 16), 4, "GGUFError"),
    "architecture": (
        lambda text, _: rename(text, b"qwen2vl", b"qwen3vl"), 4, "ModelMismatchError",
    ),
    "projector": (
        lambda _, mmproj: rename(mmproj, b"qwen2.5vl_merger", b"qwen2.5vl_murmur"),
        4, "ModelMismatchError",
    ),
    "mmproj of another width": (lambda _, mmproj: widen(mmproj), 4, "ModelMismatchError"),
    "text as mmproj": (lambda text, mmproj: shutil.copy(text, mmproj), 4, "ModelMismatchError"),
    "NaN in the text": (lambda text, _: spoil(text, "blk.0.ffn_up.weight"), 1, "NonFiniteError"),
    "NaN in the mmproj": (
        lambda _, mmproj: spoil(mmproj, "v.blk.0.ffn_up.weight"), 1, "NonFiniteError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_models(name: str, refusal: Refusal, pair: Path, video: Path, tmp_path: Path) -> None:
    damage, code, kind = DAMAGES[name]
    (mmproj,) = (Path(shutil.copy(path, tmp_path)) for path in pair.glob("mmproj*.gguf"))
    text = Path(shutil.copy(next(iter(set(pair.glob("*.gguf")) - {pair / mmproj.name})), tmp_path))
    damage(text, mmproj)
    got = refusal(
        "infer", "--model", text, "--mmproj", mmproj, "--video", video, "--threads", 1,
        "--context", 2048, "--max-tokens", 8,
    )  # fmt: skip
    assert got == (code, kind)


SHARD = "model-00002-of-00003.safetensors"
CHECKPOINTS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "no checkpoint": (lambda folder: shutil.rmtree(folder), 3, "ModelNotFoundError"),
    "no config": (lambda folder: (folder / "config.json").unlink(), 3, "ModelNotFoundError"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), 3, "NotFoundError"),
    "a missing shard": (lambda folder: (folder / SHARD).unlink(), 3, "NotFoundError"),
    "a shard cut short": (lambda folder: cut(folder / SHARD), 4, "CheckpointError"),
    "a missing tensor": (
        lambda folder: resize(folder, "num_hidden_layers", 4), 4, "CheckpointError",
    ),
    "a tensor too many": (
        lambda folder: resize(folder, "num_hidden_layers", 2), 4, "CheckpointError",
    ),
    "a wrong shape": (
        lambda folder: resize(folder, "intermediate_size", 1024), 4, "CheckpointError",
    ),
    "a size that is none": (
        lambda folder: resize(folder, "hidden_size", -1), 4, "CheckpointError",
    ),
}  # fmt: skip


def resize(folder: Path, name: str, value: int) -> None:
    """Have config.json promise another size than the tensors have."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: value}))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(name: str, refusal: Refusal, tmp_path: Path) -> None:
    damage, code, kind = CHECKPOINTS[name]
    folder = synthesize(tmp_path / "tiny", TINY, shards=3)
    damage(folder)
    assert refusal("quantize", folder, "--out", tmp_path / "out") == (code, kind)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_names_that_are_not_in_utf8(
    refusal: Refusal, pair: Path, write_video: WriteVideo, tmp_path: Path
) -> None:
    clip = write_video(10).rename(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    assert refusal("infer", "--model", pair, "--video", clip) == (4, "MediaError")


def test_a_full_disk(
    refusal: Refusal, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs.os, "pwrite", full)
    assert refusal("quantize", checkpoint, "--out", tmp_path / "out") == (1, "OSError")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["ENOSPC", "EDQUOT", "EFBIG", "ENOENT", "EACCES", "EROFS", "EEXIST", "EIO"]
)
def test_what_the_system_refuses_has_a_hint(name: str) -> None:
    code = getattr(errno, name)
    said = report(OSError(code, os.strerror(code), "out/tiny.gguf"))
    assert said is not None
    assert said.hint and said.message.startswith("out/tiny.gguf: ")
    assert "--" not in said.hint, "few commands have the option"
