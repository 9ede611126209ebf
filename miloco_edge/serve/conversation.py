"""What was said, in any dialect, as the model was trained to be asked.

The media come first and the words of the last turn last, whatever order they were sent in:
/no_think counts only at the very end (XiaomiMiMo/MiMo-VL#32). Where words stood between pictures
("Camera 1:", picture, "Camera 2:", picture), a mark takes each picture's place in the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from miloco_edge import Turn
from miloco_edge.serve.media import Medium, Remote
from miloco_edge.serve.refusal import bad_request
from miloco_edge.serve.tools import Call, call_text, result_text

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Said:
    """One message: words and media in the order in which they were sent."""

    role: Role
    parts: tuple[str | Medium | Remote, ...]
    calls: tuple[Call, ...] = ()
    """Tools that the assistant called."""


@dataclass(frozen=True)
class Conversation:
    """What the engine is to be asked."""

    question: str
    media: tuple[Medium | Remote, ...] = ()
    history: tuple[Turn, ...] = ()
    system: str | None = None


def conversation(messages: Sequence[Said], tools: str | None = None) -> Conversation:
    """Put messages in order; `tools` is what the system prompt says of them. Raises Refusal."""
    marks = _Marks(messages)
    system: list[str] = []
    asked: list[str] = []
    history: list[Turn] = []
    for message in messages:
        text = marks.text(message)
        if message.role == "system":
            system.append(text)
        elif message.role == "assistant":
            answer = "\n".join(filter(None, [text, *map(call_text, message.calls)]))
            history.append(Turn("\n".join(filter(None, asked)), answer))
            asked = []
        elif message.role == "tool":
            asked.append(result_text(text))
        else:
            asked.append(text)
    question = "\n".join(filter(None, asked))
    if not question.strip():
        raise bad_request(
            "no_question", "expected words in the last message, from user or tool", "messages"
        )
    instructions = "\n\n".join(filter(None, [*system, tools]))
    return Conversation(question, tuple(marks.media), tuple(history), instructions or None)


Group = tuple[bool, list[str | Medium | Remote]]


class _Marks:
    """The media of all messages in their order, and what stands for them in the words."""

    def __init__(self, messages: Sequence[Said]) -> None:
        self.media: list[Medium | Remote] = []
        places = [group for message in messages for group in _groups(message) if not group[0]]
        self._needed = len(places) > 1

    def text(self, message: Said) -> str:
        """The words of a message, with marks where media stand in more than one place."""
        words: list[str] = []
        for are_words, parts in _groups(message):
            if are_words:
                words += [part for part in parts if isinstance(part, str)]
                continue
            media = [part for part in parts if not isinstance(part, str)]
            self.media += media
            if self._needed:
                words.append(self._mark(media))
        return "\n".join(words)

    def _mark(self, media: list[Medium | Remote]) -> str:
        last = len(self.media)
        first = last - len(media) + 1
        kind = "picture" if media[0].kind == "picture" else "video"
        return f"[{kind} {first}]" if first == last else f"[{kind}s {first} to {last}]"


def _groups(message: Said) -> list[Group]:
    """Words and media that stand together; blank words between media do not part them."""
    parts = [part for part in message.parts if not isinstance(part, str) or part.strip()]
    return [(words, list(each)) for words, each in groupby(parts, lambda p: isinstance(p, str))]
