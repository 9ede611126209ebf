"""Answers on disk, one line each, so that a run that was stopped goes on where it was.

A line is kept by the item's id and by a key: a hash of what the model is, how it was asked, and
what it was shown. Another model, option or clip makes another key, and the question is asked again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from miloco_edge.errors import ManifestError
from miloco_edge.evaluate.manifest import Item
from miloco_edge.types import Box, Point, Span


@dataclass(frozen=True)
class Reply:
    """What the model said about one item, and what it cost."""

    id: str
    text: str
    finish_reason: str
    thought: bool
    """It wrote a thought, asked to or not (a thought under /no_think is taken back)."""
    own_tags: bool
    """It wrote `<think>` and `</think>` itself: no budget closed its thought."""
    boxes: tuple[Box, ...]
    points: tuple[Point, ...]
    spans: tuple[Span, ...]
    p_yes: float | None
    """Binary items: from the logits, without thinking."""
    outside_mass: float | None
    """Of the next token's probability, what is neither yes nor no."""
    decision: str | None
    """Binary items: "yes", "no" or "unknown" by the logits."""
    look_s: float | None
    """Decoding, ViT and prefill of the clip, with the first question about it; else None."""
    answer_s: float
    visual_tokens: int
    thinking_tokens: int
    completion_tokens: int
    refused: str | None = None
    """Why the media could not be shown."""


class Journal:
    """The answers of earlier runs and of this one; without a path they are kept in memory alone."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._held: dict[tuple[str, str], Reply] = {} if path is None else _read(path)
        self._file: IO[str] | None = None
        if path is not None:
            self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def find(self, item: Item, key: str) -> Reply | None:
        """The answer that was given to the item under the same key."""
        return self._held.get((item.id, key))

    def keep(self, key: str, reply: Reply) -> None:
        """Add an answer; it is on disk when this returns."""
        self._held[reply.id, key] = reply
        if self._file is not None:
            self._file.write(json.dumps({"key": key, **asdict(reply)}, ensure_ascii=False) + "\n")
            self._file.flush()


def key_of(item: Item, settings: Mapping[str, Any]) -> str:
    """A hash of the question, of the size and time of its media, and of the settings."""
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in item.media]
    shown = [item.task, item.question, item.options, item.start, item.end, files]
    return hashlib.sha256(json.dumps([shown, settings]).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[tuple[str, str], Reply]:
    """The lines of a journal; one that a killed run left unfinished is cut off."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    held: dict[tuple[str, str], Reply] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            fields = json.loads(line)
            key = fields.pop("key")
            for name, kind in (("boxes", Box), ("points", Point), ("spans", Span)):
                fields[name] = tuple(kind(**_tuples(each)) for each in fields[name])
            reply = Reply(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ManifestError(
                path, number, f"expected an answer of an earlier run, got {error}",
                hint="delete the file to ask all questions again",
            ) from error  # fmt: skip
        held[reply.id, key] = reply
    return held


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
