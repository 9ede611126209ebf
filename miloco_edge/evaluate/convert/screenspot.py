"""ScreenSpot (SeeClick), ScreenSpot-v2 (OS-Copilot) and ScreenSpot-Pro: where to click.

Annotations are JSON lists of {"img_filename", "bbox", "instruction", …} in pixels of the
screenshot. The box is [x, y, width, height] in ScreenSpot and v2 (screenspot_web.json,
screenspot_web_v2.json), with "data_type" and "data_source"; it is [x0, y0, x1, y1] in Pro
(annotations/*.json), with "id", "ui_type" and "group".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miloco_edge.errors import ManifestError
from miloco_edge.evaluate.convert.source import Source, field, read_json
from miloco_edge.evaluate.manifest import Item

Box = tuple[float, float, float, float]

_QUESTION = "Which element is meant by this instruction? Give its bbox_2d in JSON: {instruction}"
_PLATFORMS = ("mobile", "desktop", "web")


def read_v1(source: Source) -> Iterator[Item]:
    """ScreenSpot; categories are platform and kind, "web text"."""
    return _read_click(source, "ScreenSpot", "")


def read_v2(source: Source) -> Iterator[Item]:
    """ScreenSpot-v2; categories as in ScreenSpot."""
    return _read_click(source, "ScreenSpot-v2", "_v2")


def read_pro(source: Source) -> Iterator[Item]:
    """ScreenSpot-Pro; categories are its groups and kinds, "CAD icon"."""
    paths = source.files("annotations/*.json", "annotations")
    for path, number, row in _rows(paths):
        box = _box(row, path, number)
        group = field(row, "group", str, path, number)
        kind = field(row, "ui_type", str, path, number)
        item = _item(source, "ScreenSpot-Pro", f"{group} {kind}", path, number, row, box)
        if item is not None:
            yield item


def _read_click(source: Source, benchmark: str, ending: str) -> Iterator[Item]:
    for platform in _PLATFORMS:
        paths = source.files(f"screenspot_{platform}{ending}.json", "annotations")
        for path, number, row in _rows(paths[:1]):
            x, y, width, height = _box(row, path, number)
            kind = field(row, "data_type", str, path, number)
            box = (x, y, x + width, y + height)
            item = _item(source, benchmark, f"{platform} {kind}", path, number, row, box)
            if item is not None:
                yield item


def _rows(paths: list[Path]) -> Iterator[tuple[Path, int, Any]]:
    for path in paths:
        rows = read_json(path)
        if not isinstance(rows, list):
            raise ManifestError(path, None, "expected a list of annotations, got something else")
        for number, row in enumerate(rows, 1):
            yield path, number, row


def _box(row: Any, path: Path, number: int) -> Box:
    values = field(row, "bbox", list, path, number)
    if len(values) != 4 or not all(isinstance(value, int | float) for value in values):
        raise ManifestError(path, number, f"bbox: expected four numbers, got {values!r:.60}")
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1


def _item(
    source: Source,
    benchmark: str,
    category: str,
    path: Path,
    number: int,
    row: Any,
    box: Box,
) -> Item | None:
    if box[0] >= box[2] or box[1] >= box[3]:
        source.skipped["no area"] += 1
        return None
    name = field(row, "img_filename", str, path, number)
    instruction = field(row, "instruction", str, path, number)
    media = source.media(name)
    if media is None:
        return None
    return Item(
        id=f"{benchmark}/{path.stem}-{number}",
        task="point",
        media=(media,),
        question=_QUESTION.format(instruction=instruction),
        target=box,
        category=category,
        group=name,
        split="test",
    )
