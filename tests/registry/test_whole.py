"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from miloco_edge.registry import cache
from miloco_edge.registry.whole import write_whole


def test_what_was_there_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "first")

    def full(self: Path, text: str, *_: object) -> None:
        self.write_bytes(text[:2].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_pull_that_cannot_be_recorded_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = cache.repo_folder("org/name")
    folder.mkdir()

    def busy(self: Path, target: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    pull = cache.Pull("org/name", "0" * 40, "main", "2026-01-01T00:00:00Z", None, False, {})
    with pytest.raises(OSError, match="busy"):
        cache.record(pull)
    assert list(folder.iterdir()) == []
