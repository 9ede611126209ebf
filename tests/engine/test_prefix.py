"""The KV of a system prompt over restarts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from miloco_edge import Engine
from miloco_edge.engine.prefix import MOST_FILES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


def load(pair: Path, folder: Path, **options: object) -> Engine:
    return Engine.load(pair, threads=1, context=512, profile=False, prefixes=folder, **options)  # type: ignore[arg-type]


@pytest.fixture
def first(pair: Path, folder: Path) -> Iterator[np.ndarray]:
    """Logits of an engine that has written its prompt."""
    with load(pair, folder) as engine, engine.look() as scene:
        yield scene.logits("Hello?")[0]


def test_a_prompt_is_there_after_a_restart(pair: Path, folder: Path, first: np.ndarray) -> None:
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(files) == 2, "with and without media"
    with load(pair, folder) as engine:
        with engine.look() as scene:
            assert scene.usage.cached_tokens == scene.usage.prompt_tokens > 0
            assert np.allclose(scene.logits("Hello?")[0], first, atol=1e-4)
        held = sum(length for _, length in engine._loaded.lookout._openings.values())
        context = engine._loaded.context
        assert context.free_cells == context.n_ctx - held < context.n_ctx
    assert set(folder.iterdir()) == set(files), "nothing was written anew"


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty"])
def test_a_file_that_does_not_fit_is_refused(
    pair: Path, folder: Path, first: np.ndarray, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    whole = list(before.values())
    for path, data, other in zip(sorted(folder.iterdir()), whole, reversed(whole), strict=True):
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes(
            {"cut": data[:-9], "flipped": flipped, "other": other, "empty": b""}[damage]
        )
    with caplog.at_level(logging.WARNING), load(pair, folder) as engine, engine.look() as scene:
        assert np.allclose(scene.logits("Hello?")[0], first, atol=1e-4)
    assert sum("expected the KV" in record.message for record in caplog.records) == 2
    assert {path.name for path in folder.iterdir()} == set(before), "written anew"
    assert all(path.read_bytes() != b"" for path in folder.iterdir())


def test_other_settings_have_other_files(pair: Path, folder: Path, first: np.ndarray) -> None:
    with load(pair, folder, batch=64):
        pass
    assert len(list(folder.iterdir())) == 3


def test_so_many_files_and_no_more(pair: Path, folder: Path) -> None:
    for number in range(MOST_FILES + 2):
        load(pair, folder, batch=64 + number).close()
    assert len(list(folder.iterdir())) == MOST_FILES


def test_what_a_client_says_is_not_kept(pair: Path, folder: Path, first: np.ndarray) -> None:
    there = set(folder.iterdir())
    with load(pair, folder) as engine:
        engine.look(system="The alarm's code is 4711.").close()
        assert set(folder.iterdir()) == there
        engine.look(smart_home=True).close()
    assert len(set(folder.iterdir()) - there) == 1, "a prompt of ours is"


def test_nothing_half_written_stays(
    pair: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    killed, writing = folder / "a.1.part", folder / "b.2.part"
    for part in (killed, writing):
        part.write_bytes(b"half")
    os.utime(killed, (0, 0))
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        real(path, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING), load(pair, folder) as engine:
        assert {path.name for path in folder.iterdir()} == {"a.1.part", "b.2.part"}
        assert "No space left" in caplog.text

        def interrupted(path: Path, data: bytes) -> int:
            real(path, data[:100])
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.look()
        assert len(list(folder.iterdir())) == 2
        monkeypatch.undo()
        engine.look(smart_home=True).close()
    assert sorted(path.suffix for path in folder.iterdir()) == [".kv", ".part"]
    assert writing.exists() and not killed.exists()


def test_a_folder_that_cannot_be_written_is_said(
    pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with caplog.at_level(logging.WARNING), load(pair, file / "prefixes") as engine:
        assert engine.n_vocab
    assert "not kept" in caplog.text or "computed anew" in caplog.text


def test_a_folder_that_is_only_read_serves(
    pair: Path, folder: Path, first: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system", str(path))

    for name in ("touch", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with load(pair, folder) as engine, engine.look() as scene:
        assert scene.usage.cached_tokens == scene.usage.prompt_tokens > 0
    for path in folder.iterdir():
        path.write_bytes(b"something else")
    with load(pair, folder) as engine, engine.look() as scene:
        assert np.allclose(scene.logits("Hello?")[0], first, atol=1e-4)
