"""What is asked and what came of it. Nothing but the standard library: every side imports this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One question, the same for everybody."""

    frames: tuple[str, ...]
    """Paths of PNG files, all of one legal size; none for a question without pictures."""
    fps: float
    system: str
    question: str
    """The user's words as the template gets them, /no_think included where the model knows it."""
    tokens: int
    """The most that are answered."""
    video: str | None = None
    """The same frames as a film, for those who take one."""

    def as_json(self) -> dict[str, Any]:
        """To send to a process."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Request:
        """As it was sent."""
        return cls(**{**document, "frames": tuple(document["frames"])})


@dataclass(frozen=True)
class Reading:
    """One answer. Seconds count from when the question was handed over, models loaded."""

    first_token_s: float
    """Until the first token of the answer could be read."""
    total_s: float
    answer: str
    prompt_tokens: int | None = None
    """None where the peer does not tell."""
    answer_tokens: int | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    """What the peer tells of itself beside."""

    @property
    def tokens_per_s(self) -> float | None:
        """Decode rate after the first token."""
        after = self.total_s - self.first_token_s
        if self.answer_tokens is None or self.answer_tokens < 2 or after <= 0:
            return None
        return (self.answer_tokens - 1) / after
