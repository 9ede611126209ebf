from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miloco_edge.errors import ManifestError, NotFoundError
from miloco_edge.evaluate.manifest import Item, read_manifest

LINE = {
    "id": "1", "task": "binary", "media": "a.png", "start": None, "end": None,
    "question": "Is it so?", "options": None, "target": "yes", "category": None, "group": None,
    "split": None,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    return tmp_path


def write(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "m.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


def test_all_tasks(folder: Path) -> None:
    lines = [
        LINE,
        {"id": "2", "task": "choice", "media": None, "question": "?", "options": ["a", "b"],
         "target": "B"},
        {"id": "3", "task": "temporal", "media": "a.png", "start": 1, "end": 9.5, "question": "?",
         "target": [2, 3.5]},
        {"id": "4", "task": "point", "media": ["a.png", "b.png"], "question": "?",
         "target": [0, 0, 4, 5], "group": "g", "split": "test", "category": "c"},
        {"id": "5", "task": "exact", "media": "a.png", "question": "?", "target": ["4", "four"]},
    ]  # fmt: skip
    found = read_manifest(write(folder, *lines[:2], "", *lines[2:]))
    assert [item.task for item in found] == ["binary", "choice", "temporal", "point", "exact"]
    assert found[0] == Item("1", "binary", (folder / "a.png",), "Is it so?", "yes")
    assert (found[1].media, found[1].options, found[1].target) == ((), ("a", "b"), "B")
    assert (found[2].start, found[2].end, found[2].target) == (1.0, 9.5, (2.0, 3.5))
    assert found[3].media == (folder / "a.png", folder / "b.png")
    assert (found[3].group, found[3].split, found[3].category) == ("g", "test", "c")
    assert found[4].target == ("4", "four")
    assert len(read_manifest(write(folder, *lines), limit=2)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "guess"}, "task: expected one of binary, choice"),
        ({"catgory": "x"}, "expected fields among .* got catgory"),
        ({"id": 3}, "id: expected text, got 3"),
        ({"question": " "}, "question: expected text"),
        ({"media": 4}, "media: expected a path"),
        ({"media": "none.png"}, "expected media at .*none.png, found nothing"),
        ({"start": -1}, "start: expected seconds or null, got -1"),
        ({"end": True}, "end: expected seconds or null, got True"),
        ({"start": 3, "end": 3}, "expected a start before the end"),
        ({"target": "Yes"}, 'target: expected "yes" or "no" for binary'),
        ({"options": ["a", "b"]}, "options: expected null for binary"),
        ({"task": "choice", "options": ["a"]}, "options: expected a list of 2 to 26 texts"),
        ({"task": "choice", "options": "ab"}, "options: expected a list"),
        ({"task": "choice", "options": ["a", "b"], "target": "C"}, "a letter from A to B"),
        ({"task": "temporal", "target": [3, 2]}, "expected \\[start, end\\] in seconds"),
        ({"task": "temporal", "target": [0, float("inf")]}, "expected \\[start, end\\]"),
        ({"task": "point", "target": [0, 0, 1]}, "expected \\[x0, y0, x1, y1\\] in pixels"),
        ({"task": "exact", "target": []}, "expected text, or a list of texts"),
        ({"group": 7}, "group: expected text"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    path = write(folder, {**LINE, "id": "0"}, {**LINE, **change})
    with pytest.raises(ManifestError, match=f"m.jsonl, line 2: .*{message}") as raised:
        read_manifest(path)
    assert raised.value.line == 2
    assert raised.value.path == path


@pytest.mark.parametrize("missing", ["id", "task", "media", "question", "target"])
def test_what_is_needed(folder: Path, missing: str) -> None:
    line = {name: value for name, value in LINE.items() if name != missing}
    with pytest.raises(ManifestError, match=f"line 1: expected {missing}, got none"):
        read_manifest(write(folder, line))


@pytest.mark.parametrize("line", ["{", "[1]", "[" * 100_000, "\xff"])
def test_what_is_no_object(folder: Path, line: str) -> None:
    with pytest.raises(ManifestError, match="line 1: expected a JSON object"):
        read_manifest(write(folder, line))


def test_ids_are_used_once(folder: Path) -> None:
    with pytest.raises(ManifestError, match=r"line 2: .* got '1' as on line 1"):
        read_manifest(write(folder, LINE, LINE))


def test_nothing_to_ask(folder: Path) -> None:
    with pytest.raises(ManifestError, match="at least one item"):
        read_manifest(write(folder, ""))
    with pytest.raises(NotFoundError, match="expected a manifest"):
        read_manifest(folder / "none.jsonl")


@pytest.mark.parametrize(
    ("id", "target", "marks"),
    [
        ("test-00003-rule-en-hard-new", "no", ("rule", "en", "hard", "new")),
        ("style-00004-rule-zh", "no", ("rule", "zh", "easy", "known")),
        ("test-00005-rule-en-new", "yes", ("rule", "en", "new")),
        ("my-new-clip", "yes", ()),
        ("Video-MME/001-1", "yes", ()),
    ],
)
def test_marks_of_drawn_clips(id: str, target: str, marks: tuple[str, ...]) -> None:
    assert Item(id, "binary", (), "?", target).marks == marks


def test_a_drawn_manifest_is_read_as_it_is_written(tmp_path: Path) -> None:
    from models.demo.manifest import write_manifest

    items = read_manifest(write_manifest(tmp_path, "test", 20))
    assert len(items) == 20
    assert {item.task for item in items} == {"binary", "temporal", "point", "exact"}
    assert all(item.marks and item.group for item in items)
