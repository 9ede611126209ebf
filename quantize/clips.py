"""Which clips to calibrate on: the media of a folder, or the lines of a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from quantize.errors import NotFoundError, RefusedError

QUESTIONS = (
    ("Describe what happens in one sentence.", "用一句话描述画面中发生的事情。"),
    ("What is the person doing?", "画面中的人在做什么？"),
    ("Is there anyone in the room? Answer yes or no.", "房间里有人吗？请回答是或否。"),
    ("How many people, animals and screens can be seen?", "能看到多少人、动物和屏幕？"),
    ("Is anything here dangerous for a child?", "画面中有对孩子危险的东西吗？"),
    (
        "Give the bounding box of the most important object as JSON.",
        "请用 JSON 给出最重要物体的边界框。",
    ),
)
"""Asked of media that come without questions: one pair each, in English and Chinese."""

MEDIA = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "flv", "3gp"),
        *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"),
    )
)
"""Endings of the files that are taken from a folder."""


@dataclass(frozen=True)
class Ask:
    """A question, and its answer where the manifest gives one."""

    question: str
    target: str | None = None


@dataclass(frozen=True)
class Item:
    """A clip to look at once, and what to ask."""

    media: Path
    name: str
    """As the folder or the manifest calls it."""
    asks: tuple[Ask, ...]
    start: float | None = None
    end: float | None = None

    def key(self) -> str:
        """What tells it from others: the file's bytes, wherever it lies, and what is asked."""
        media = Path(self.name).as_posix()
        if self.media.is_file():
            with self.media.open("rb") as file:
                media = hashlib.file_digest(file, "sha256").hexdigest()
        content = [media, self.start, self.end, [asdict(ask) for ask in self.asks]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_items(clips: Path) -> list[Item]:
    """The clips of a folder, with questions of ours, or those of a JSONL manifest.

    Raises NotFoundError, or RefusedError where there is none or a line cannot be read.
    """
    if clips.is_dir():
        files = (path for path in clips.rglob("*") if path.suffix.lower() in MEDIA)
        names = sorted(path.relative_to(clips) for path in files if path.is_file())
        items = [
            Item(clips / name, str(name), _questions(name))
            for name in names
            if not any(part.startswith(".") for part in name.parts)
        ]
    elif clips.is_file():
        items = _of_manifest(clips)
    else:
        raise NotFoundError(
            clips, "expected a folder of clips or a manifest, found nothing", hint="check the path"
        )
    if not items:
        raise RefusedError(
            f"{clips}: expected videos or pictures, got none",
            hint=f"they end in one of {' '.join(sorted(MEDIA))}",
        )
    return items


def _questions(name: Path) -> tuple[Ask, ...]:
    """A pair by the file's name: adding a file leaves the other files' questions alone."""
    return tuple(
        Ask(text) for text in QUESTIONS[crc32(os.fsencode(name.as_posix())) % len(QUESTIONS)]
    )


def _of_manifest(path: Path) -> list[Item]:
    """Lines about the same stretch of the same media become one clip with several questions."""
    asks: dict[tuple[str, float | None, float | None], list[Ask]] = {}
    for number, line in _lines(path):
        try:
            media, question, target = line["media"], line["question"], line.get("target")
            start, end = (_seconds(line.get(edge)) for edge in ("start", "end"))
            if not isinstance(media, str) or not isinstance(question, str):
                raise TypeError("media and question must be text")
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(
                f"{path}, line {number}: expected media, question, and start and end in seconds or "
                f"null, got {type(error).__name__}: {error}",
                hint='a line is {"media": "a.mp4", "start": null, "end": null, '
                '"question": "...", "target": "..."}',
            ) from error
        if isinstance(target, list) and target and isinstance(target[0], str):
            target = target[0]  # one of several that are right
        text = target if isinstance(target, str) or target is None else json.dumps(target)
        asks.setdefault((media, start, end), []).append(Ask(question, text))
    return [
        Item(path.parent / media, media, tuple(dict.fromkeys(questions)), start, end)
        for (media, start, end), questions in asks.items()
    ]


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            line = error
        if not isinstance(line, dict):
            raise RefusedError(
                f"{path}, line {number}: expected a JSON object, got {line!r:.80}",
                hint="a manifest has one JSON object a line",
            )
        yield number, line


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"expected seconds, got {value!r}")
    return float(value)
