"""Questions with known answers: one JSON object a line.

    {"id": "kitchen-1", "task": "binary", "media": "clips/kitchen.mp4", "start": null, "end": null,
     "question": "Is someone reading?", "options": null, "target": "yes", "category": "reading",
     "group": "kitchen", "split": "test"}

`media` is a file beside the manifest, a folder of frames, a list of pictures, or null for text
alone. What `target` is depends on the task:

    binary     "yes" or "no"
    choice     the letter of one of the `options`
    temporal   [start, end] in seconds of the media
    point      [x0, y0, x1, y1] in pixels of the media's first frame
    exact      the answer's text, or a list of texts that are all right
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from miloco_edge.errors import ManifestError, NotFoundError

Task = Literal["binary", "choice", "temporal", "point", "exact"]
TASKS: tuple[Task, ...] = get_args(Task)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_NEEDED = ("id", "task", "media", "question", "target")
_OPTIONAL = ("start", "end", "options", "category", "group", "split")
_LINE = '{"id": "1", "task": "binary", "media": "a.mp4", "question": "...", "target": "yes"}'
_MARKS = re.compile(r".+-\d{5,}-(?P<skill>[a-z_]+)-(?P<language>en|zh)(?P<rest>(-hard|-new)*)")


@dataclass(frozen=True)
class Item:
    """One question and what its answer must be."""

    id: str
    task: Task
    media: tuple[Path, ...]
    """Nothing for a question about text alone; several for separate pictures."""
    question: str
    target: str | tuple[str, ...] | tuple[float, ...]
    start: float | None = None
    end: float | None = None
    options: tuple[str, ...] = ()
    category: str | None = None
    group: str | None = None
    """Items of one group share a clip or a person: they are resampled together."""
    split: str | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """What the id says: the skill, "en" or "zh", "hard" or "easy", "new" or "known" wording.

        Manifests of drawn clips carry them; other ids say nothing.
        """
        found = _MARKS.fullmatch(self.id)
        if found is None:
            return ()
        rest = found["rest"].split("-")
        hard = ("hard" if "hard" in rest else "easy",) if self.target == "no" else ()
        wording = "new" if "new" in rest else "known"
        return (found["skill"], found["language"], *hard, wording)

    @property
    def clip(self) -> tuple[object, ...]:
        """What is looked at: neighbours that share it share a scene."""
        return (self.media, self.start, self.end)


def read_manifest(path: Path, limit: int | None = None) -> list[Item]:
    """The items of a manifest, at most `limit`.

    Raises NotFoundError without the file, ManifestError for the first line that is not as it
    should be or names media that are not there.
    """
    if not path.is_file():
        raise NotFoundError(
            f"expected a manifest at {path}, found none",
            hint="`miloco-edge eval convert` writes one from a data set",
        )
    items: list[Item] = []
    lines: dict[str, int] = {}
    for number, fields in _lines(path):
        if len(items) == limit:
            break
        try:
            item = _item(fields, path.parent)
        except ValueError as error:
            raise ManifestError(path, number, str(error), hint=f"a line is {_LINE}") from error
        if item.id in lines:
            raise ManifestError(
                path, number, f"expected an id of its own, got {item.id!r} as on line "
                f"{lines[item.id]}", hint="answers are kept by id: give each question its own",
            )  # fmt: skip
        for media in item.media:
            if not media.exists():
                raise ManifestError(
                    path, number, f"expected media at {media}, found nothing",
                    hint="media are looked for beside the manifest",
                )  # fmt: skip
        lines[item.id] = number
        items.append(item)
    if not items:
        raise ManifestError(path, None, "expected at least one item, got none")
    return items


def to_line(item: Item, folder: Path) -> dict[str, Any]:
    """The fields of an item as a manifest in `folder` has them."""
    media = [os.path.relpath(path, folder) for path in item.media]
    one = len(item.target) == 1 and item.task == "exact"
    return {
        "id": item.id,
        "task": item.task,
        "media": None if not media else media[0] if len(media) == 1 else media,
        "start": item.start,
        "end": item.end,
        "question": item.question,
        "options": list(item.options) or None,
        "target": item.target[0] if one else item.target,
        "category": item.category,
        "group": item.group,
        "split": item.split,
    }


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if not text.strip():
            continue
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(
                path, number, f"expected a JSON object, got {error}", hint=f"a line is {_LINE}"
            ) from error
        if not isinstance(fields, dict):
            raise ManifestError(
                path, number, f"expected a JSON object, got {fields!r:.60}",
                hint=f"a line is {_LINE}",
            )  # fmt: skip
        yield number, fields


def _item(fields: Mapping[str, Any], folder: Path) -> Item:
    """Raises ValueError, its message without the place."""
    for name in _NEEDED:
        if name not in fields:
            raise ValueError(f"expected {name}, got none")
    for name in fields:
        if name not in (*_NEEDED, *_OPTIONAL):
            known = ", ".join((*_NEEDED, *_OPTIONAL))
            raise ValueError(f"expected fields among {known}, got {name}")
    task = fields["task"]
    if task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {task!r}")
    start, end = (_seconds(fields, name) for name in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise ValueError(f"start, end: expected a start before the end, got {start} and {end}")
    options = _options(fields, task)
    return Item(
        id=_text(fields, "id"),
        task=task,
        media=tuple(folder / name for name in _media(fields["media"])),
        question=_text(fields, "question"),
        target=_target(fields["target"], task, options),
        start=start,
        end=end,
        options=options,
        category=_optional_text(fields, "category"),
        group=_optional_text(fields, "group"),
        split=_optional_text(fields, "split"),
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: expected text, got {value!r:.60}")
    return value


def _optional_text(fields: Mapping[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


def _media(value: object) -> list[str]:
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"media: expected a path, a list of pictures or null, got {value!r:.60}")
    return names


def _seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if not _is_number(value) or value < 0:
        raise ValueError(f"{name}: expected seconds or null, got {value!r:.60}")
    return float(value)


def _options(fields: Mapping[str, Any], task: Task) -> tuple[str, ...]:
    value = fields.get("options")
    if task != "choice":
        if value is not None:
            raise ValueError(f"options: expected null for {task}, got {value!r:.60}")
        return ()
    texts = isinstance(value, list) and all(isinstance(o, str) for o in value)
    if not texts or not 2 <= len(value) <= len(LETTERS):  # type: ignore[arg-type]
        raise ValueError(
            f"options: expected a list of 2 to {len(LETTERS)} texts, got {value!r:.60}"
        )
    return tuple(value)  # type: ignore[arg-type]


def _target(value: Any, task: Task, options: tuple[str, ...]) -> Any:
    match task:
        case "binary":
            if value in ("yes", "no"):
                return value
            expected = '"yes" or "no"'
        case "choice":
            letters = LETTERS[: len(options)]
            if isinstance(value, str) and len(value) == 1 and value in letters:
                return value
            expected = f"a letter from A to {letters[-1]}"
        case "temporal":
            if _numbers(value, 2) and 0 <= value[0] < value[1]:
                return tuple(map(float, value))
            expected = "[start, end] in seconds"
        case "point":
            if _numbers(value, 4) and value[0] < value[2] and value[1] < value[3]:
                return tuple(map(float, value))
            expected = "[x0, y0, x1, y1] in pixels"
        case "exact":
            texts = value if isinstance(value, list) else [value]
            if texts and all(isinstance(text, str) and text.strip() for text in texts):
                return tuple(texts)
            expected = "text, or a list of texts"
    raise ValueError(f"target: expected {expected} for {task}, got {value!r:.60}")


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
