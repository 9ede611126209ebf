"""Tiny folders in the data sets' own formats."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from miloco_edge.errors import ManifestError, MilocoEdgeError, NotFoundError
from miloco_edge.evaluate.convert import CONVERTERS, convert
from miloco_edge.evaluate.manifest import Item, read_manifest
from miloco_edge.evaluate.report import benchmark_of
from miloco_edge.evaluate.run import prompt
from miloco_edge.registry.cards import load_cards


def converted(name: str, folder: Path) -> tuple[list[Item], dict[str, int]]:
    """The items, as they are read back from the manifest that was written."""
    out = folder.parent / "out" / f"{name}.jsonl"
    out.parent.mkdir(exist_ok=True)
    done = convert(name, folder, out)
    items = read_manifest(out)
    assert done.items == len(items) and done.path == out
    return items, dict(done.skipped)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)


def png(color: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (28, 28), color).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{color}.png"}


def test_hagrid(tmp_path: Path) -> None:
    folder = tmp_path / "hagrid"
    gestures = ("ok", "like", "peace", "peace_inverted", "call", "palm", "stop", "fist", "four")
    for gesture in gestures:
        pictures = {}
        for i in range(4):
            name = f"{gesture}-{i}"
            labels = ["no_gesture", gesture] if i % 2 else [gesture]
            pictures[name] = {
                "bboxes": [[0.1, 0.2, 0.3, 0.4]] * len(labels), "labels": labels,
                "united_bbox": None, "user_id": f"person-{i}", "meta": {"age": [30]},
            }  # fmt: skip
            if i < 3:
                touch(folder / gesture / f"{name}.jpg")
        write(folder / "annotations" / "test" / f"{gesture}.json", pictures)
    write(folder / "annotations" / "train" / "ok.json", {"a": {"labels": ["ok"], "user_id": "x"}})
    items, skipped = converted("hagrid", folder)
    assert skipped == {"media not there": len(gestures)}
    asked = Counter((item.category, item.target) for item in items)
    assert asked == Counter(
        {
            (category, target): 6 if category == "v_sign" else 3
            for category in ("ok", "thumbs_up", "v_sign", "shaka~call", "open_palm")
            for target in ("yes", "no")
        }
    )
    palms = [item for item in items if item.category == "open_palm"]
    assert not any("stop" in item.media[0].name for item in palms)
    assert len({item.media[0].parent.name for item in items if item.target == "no"}) > 4
    one = next(item for item in items if item.id == "HaGRID/call-1-shaka~call")
    assert (one.target, one.group, one.split) == ("yes", "person-1", "test")
    assert one.question == (
        "Does the picture meet the following conditions: Someone is making the shaka sign?"
    )


def test_toyota_smarthome(tmp_path: Path) -> None:
    folder = tmp_path / "smarthome"
    for name in (
        "WatchTV_p25_r01_v14_c07", "WatchTV_p02_r00_v01_c01", "Readbook_p10_r00_v02_c03",
        "Cook.Cleandishes_p02_r00_v02_c03", "Drink.Fromcup_p10_r02_02_c05", "Walk_p13_r04_v05_c04",
        "notes",
    ):  # fmt: skip
        touch(folder / "mp4" / f"{name}.mp4")
    items, skipped = converted("toyota-smarthome", folder)
    assert skipped == {"name not of the data set": 1}
    found = {(item.category, item.target, item.media[0].name.split("_")[0]) for item in items}
    assert {("watch_tv", "yes", "WatchTV"), ("reading", "yes", "Readbook")} <= found
    assert Counter(item.target for item in items) == {"yes": 3, "no": 3}
    assert {item.group for item in items if item.target == "yes"} == {"p25", "p02", "p10"}


def test_charades_sta(tmp_path: Path) -> None:
    folder = tmp_path / "Charades"
    write(
        folder / "charades_sta_test.txt",
        "3MSZA 24.3 30.4##person turn a light on.\nGONE1 0.0 4.0##person sits down.\n"
        "3MSZA 5.0 5.0##person waits.\n",
    )
    touch(folder / "Charades_v1_480" / "3MSZA.mp4")
    items, skipped = converted("charades-sta", folder)
    assert skipped == {"media not there": 1, "no length": 1}
    (item,) = items
    assert (item.task, item.target, item.group) == ("temporal", (24.3, 30.4), "3MSZA")
    assert "sentence: person turn a light on. Please return" in item.question
    write(folder / "charades_sta_test.txt", "3MSZA 24.3##person turn a light on.")
    with pytest.raises(ManifestError, match="line 1: expected VIDEO START END##SENTENCE"):
        converted("charades-sta", folder)


def test_video_mme(tmp_path: Path) -> None:
    folder = tmp_path / "Video-MME"
    rows = [
        {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "x",
         "url": "u", "videoID": "fFjv93ACGo8", "question_id": f"001-{i}", "task_type": "Counting",
         "question": "How many?", "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
         "answer": "C"}
        for i in (1, 2)
    ]  # fmt: skip
    table(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    touch(folder / "data" / "fFjv93ACGo8.mp4")
    items, _ = converted("video-mme", folder)
    assert [item.id for item in items] == ["Video-MME/001-1", "Video-MME/001-2"]
    assert items[0].options == ("One.", "Two.", "Three.", "Four.")
    assert (items[0].target, items[0].category, items[0].group) == ("C", "short", "fFjv93ACGo8")
    assert prompt(items[0]).splitlines()[1:3] == ["How many?", "A. One."]
    assert benchmark_of(items) == "Video-MME"


def test_mmmu_pro_writes_the_pictures_that_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "MMMU_Pro"
    row = {
        "id": "test_Art/1", "question": "Look at <image 1>. Which?", "explanation": "?",
        "options": "['a \"red\" one', '<image 3>', 'none']", "image_1": png("red"),
        "image_2": None, "image_3": png("blue"), "img_type": "['Paintings']", "answer": "B",
        "topic_difficulty": "Easy", "subject": "Art",
    }  # fmt: skip
    table(folder / "standard (10 options)" / "test-00000-of-00002.parquet", [row])
    vision = {"id": "test_Art_2", "image": png("green"), "options": "['x', 'y']", "answer": "A",
              "subject": "Art"}  # fmt: skip
    bare = {name: vision[name] for name in ("image", "subject")} | {"id": "3", "answer": "J"}
    table(folder / "vision" / "test-00000-of-00004.parquet", [vision])
    table(folder / "vision" / "test-00001-of-00004.parquet", [bare])
    (item,), _ = converted("mmmu-pro", folder)
    assert [path.name for path in item.media] == ["test_Art_1-1.png", "test_Art_1-3.png"]
    assert Image.open(item.media[1]).getpixel((0, 0)) == (0, 0, 255)
    assert (item.options, item.target) == (('a "red" one', "<image 3>", "none"), "B")
    assert item.id == "MMMU-Pro (standard)/test_Art/1"
    items, _ = converted("mmmu-pro-vision", folder)
    by_id = {item.id: item for item in items}
    assert by_id["MMMU-Pro (vision)/test_Art_2"].options == ("A", "B")
    assert len(by_id["MMMU-Pro (vision)/3"].options) == 10
    assert prompt(items[0]) == (
        "Answer the multiple-choice question in the picture.\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_mmlu_pro_is_text_alone(tmp_path: Path) -> None:
    folder = tmp_path / "MMLU-Pro"
    row = {"question_id": 70, "question": "2 + 2?", "options": ["3", "4", "5"], "answer": "B",
           "answer_index": 1, "cot_content": "", "category": "math", "src": "x"}  # fmt: skip
    table(folder / "data" / "test-00000-of-00001.parquet", [row])
    table(folder / "data" / "validation-00000-of-00001.parquet", [{**row, "question_id": 1}])
    (item,), _ = converted("mmlu-pro", folder)
    assert (item.id, item.media, item.target, item.category) == ("MMLU-Pro/70", (), "B", "math")


@pytest.mark.parametrize("version", ["", "_v2"])
def test_screenspot(tmp_path: Path, version: str) -> None:
    folder = tmp_path / "ScreenSpot"
    for platform in ("mobile", "desktop", "web"):
        row = {"img_filename": f"{platform}_1.png", "bbox": [42, 1102, 197, 70],
               "instruction": "view the details", "data_type": "text",
               "data_source": "shop"}  # fmt: skip
        write(folder / f"screenspot_{platform}{version}.json", [row, {**row, "bbox": [1, 1, 0, 5]}])
        touch(folder / "images" / f"{platform}_1.png")
    items, skipped = converted("screenspot-v2" if version else "screenspot", folder)
    assert skipped == {"no area": 3}
    assert {item.category for item in items} == {"mobile text", "desktop text", "web text"}
    assert items[0].target == (42, 1102, 239, 1172)
    assert items[0].question.endswith("Give its bbox_2d in JSON: view the details")


def test_screenspot_pro(tmp_path: Path) -> None:
    folder = tmp_path / "ScreenSpot-Pro"
    row = {"img_filename": "autocad_windows/screen.png", "bbox": [10, 20, 30, 40],
           "instruction": "rotate", "id": "autocad_windows_0", "application": "autocad",
           "platform": "windows", "img_size": [3840, 2160], "ui_type": "icon",
           "group": "CAD"}  # fmt: skip
    write(folder / "annotations" / "autocad_windows.json", [row])
    touch(folder / "images" / "other" / "screen.png")
    touch(folder / "images" / "autocad_windows" / "screen.png")
    (item,), _ = converted("screenspot-pro", folder)
    assert (item.target, item.category) == ((10, 20, 30, 40), "CAD icon")
    assert item.media[0].parent.name == "autocad_windows"
    write(folder / "annotations" / "autocad_windows.json", [{**row, "bbox": [1, "2", 3, 4]}])
    with pytest.raises(ManifestError, match="line 1: bbox: expected four numbers"):
        converted("screenspot-pro", folder)


def test_benchmarks_have_the_names_of_the_published_rows(tmp_path: Path) -> None:
    rows = {name for table in load_cards()["miloco-7b"].scores for name, _ in table.rows}
    named = {"Video-MME", "MMMU-Pro (standard)", "MMMU-Pro (vision)", "ScreenSpot", "MMLU-Pro",
             "ScreenSpot-v2", "ScreenSpot-Pro", "Charades-STA"}  # fmt: skip
    assert named <= rows


@pytest.mark.parametrize("name", CONVERTERS)
def test_nothing_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="expected a folder"):
        convert(name, tmp_path / "none", tmp_path / "out.jsonl")
    with pytest.raises(NotFoundError, match=r"expected .* in .*, found none"):
        convert(name, tmp_path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_annotations_without_media_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "charades_sta_test.txt", "3MSZA 24.3 30.4##person turn a light on.")
    with pytest.raises(ManifestError, match="expected media for 1 annotations"):
        convert("charades-sta", tmp_path, tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "E"}, "answer: expected a letter of 2 options, got 'E'"),
        ({"options": None}, "options: expected list, got None"),
        ({"question": 5}, "question: expected str, got 5"),
    ],
)
def test_a_changed_format_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    row = {"question_id": 1, "question": "?", "options": ["a", "b"], "answer": "A", "category": "m"}
    table(tmp_path / "test-0.parquet", [row | change])
    with pytest.raises(ManifestError, match=f"test-0.parquet, line 1: {message}"):
        convert("mmlu-pro", tmp_path, tmp_path / "out.jsonl")


def test_what_is_no_such_table_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "test-0.parquet", [{"other": 1}])
    with pytest.raises(ManifestError, match=r"expected the columns .* got other"):
        convert("mmlu-pro", tmp_path, tmp_path / "out.jsonl")
    (tmp_path / "test-0.parquet").write_text("no table")
    with pytest.raises(ManifestError, match="expected a Parquet table"):
        convert("mmlu-pro", tmp_path, tmp_path / "out.jsonl")
    write(tmp_path / "annotations" / "a.json", "{")
    with pytest.raises(ManifestError, match="expected JSON"):
        convert("screenspot-pro", tmp_path, tmp_path / "out.jsonl")


def test_without_pyarrow_its_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "test-0.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MilocoEdgeError, match="expected pyarrow") as raised:
        convert("mmlu-pro", tmp_path, tmp_path / "out.jsonl")
    assert raised.value.hint == "pip install 'miloco-edge[datasets]'"
