"""Telling thinking from answer in what the model says, as it says it.

The tags are plain text to the tokenizer, may be split anywhere, and may be missing: the parser
accepts no tags, empty tags, unclosed tags and a missing opening tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from miloco_edge.types import TagWriter

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Piece:
    """A bit of text as the model produced it."""

    text: str
    thinking: bool = False

    def __str__(self) -> str:
        return self.text


class ThinkParser:
    """Splits a stream of text into thinking and answer.

    With `think` the text up to `</think>` is thinking, whether or not an opening tag was written;
    if no tag comes at all, `finish` finds that it was the answer. Without `think` the text is the
    answer; an empty pair of tags in front is dropped, and `unwanted` turns true as soon as a
    thought appears between them.
    """

    def __init__(self, *, think: bool) -> None:
        self.think = think
        self.in_thinking = think
        self.unwanted = False
        self._raw = ""
        self._emitted = 0
        self.opened = False
        self.opened_by: TagWriter | None = None
        self.closed_by: TagWriter | None = None
        self._decided = False

    def feed(self, text: str, by: TagWriter = "model") -> list[Piece]:
        """Take the next text, and who wrote it; return what is certain by now."""
        self._raw += text
        if self.opened_by is None and OPEN in self._raw:
            self.opened_by = by
        if self.closed_by is None and CLOSE in self._raw:
            self.closed_by = by
        if not self._decided and not self._decide():
            return []
        return self._advance(final=False)

    def finish(self) -> tuple[str | None, str, list[Piece]]:
        """End of text: the thinking (None if there was none), the answer, and the last pieces."""
        self._decided = True
        if self.in_thinking and not self.opened:
            # Thinking was allowed and no tag was written: all of it is the answer.
            self.in_thinking = False
            return None, self._raw.strip(), []
        pieces = self._advance(final=True)
        thinking, answer = split_thinking(self._raw)
        return thinking, answer, pieces

    def _decide(self) -> bool:
        """Whether the beginning is known to be a tag or not to be one."""
        start = self._raw.lstrip()
        if len(start) < len(OPEN) and OPEN.startswith(start):
            return False
        if start.startswith(OPEN):
            body = start[len(OPEN) :]
            if not self.think:
                rest = body.lstrip()
                if not rest.startswith(CLOSE):
                    self.unwanted = not CLOSE.startswith(rest)
                    return False
                self._emitted = len(self._raw) - len(rest) + len(CLOSE)
            else:
                self.opened = True
                self._emitted = len(self._raw) - len(body)
        self._decided = True
        return True

    def _advance(self, *, final: bool) -> list[Piece]:
        pieces: list[Piece] = []
        if self.in_thinking:
            close = self._raw.find(CLOSE, self._emitted)
            end = close if close >= 0 else self._certain_end(CLOSE, final)
            if end > self._emitted:
                pieces.append(Piece(self._raw[self._emitted : end], thinking=True))
                self._emitted = end
            if close < 0:
                return pieces
            self._emitted = close + len(CLOSE)
            self.opened = True
            self.in_thinking = False
        if not self._raw[: self._emitted].strip() or self._raw[: self._emitted].rstrip().endswith(
            CLOSE
        ):
            # Blank lines between the tag and the answer belong to neither.
            rest = self._raw[self._emitted :]
            self._emitted += len(rest) - len(rest.lstrip())
        if self._emitted < len(self._raw):
            pieces.append(Piece(self._raw[self._emitted :]))
            self._emitted = len(self._raw)
        return pieces

    def _certain_end(self, tag: str, final: bool) -> int:
        """Where the text ends that cannot be the beginning of `tag`."""
        if not final:
            for held in range(min(len(tag) - 1, len(self._raw) - self._emitted), 0, -1):
                if tag.startswith(self._raw[-held:]):
                    return len(self._raw) - held
        return len(self._raw)


def split_thinking(text: str) -> tuple[str | None, str]:
    """Thinking and answer of a whole text; repeated thoughts are joined, empty ones dropped."""
    thoughts: list[str] = []
    head, close, tail = text.partition(CLOSE)
    if close and OPEN not in head:
        thoughts.append(head)
        text = tail
    for match in re.finditer(r"<think>(.*?)(?:</think>|\Z)", text, re.DOTALL):
        thoughts.append(match.group(1))
    answer = re.sub(r"<think>.*?(?:</think>|\Z)", "", text, flags=re.DOTALL).replace(CLOSE, "")
    thinking = "\n".join(thought.strip() for thought in thoughts if thought.strip())
    return thinking or None, answer.strip()
