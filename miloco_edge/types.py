"""Values that several rooms share. All are frozen; arrays carry their shape and unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

Layout = Literal["video", "images"]
FinishReason = Literal["stop", "length", "deadline", "cancelled"]
TagWriter = Literal["model", "engine"]
"""Who wrote a tag of thinking: the model of its own accord, or the engine, by force."""

RGB = NDArray[np.uint8]
"""One picture, (h, w, 3) uint8, RGB."""


@dataclass(frozen=True)
class Preprocessor:
    """How pictures become visual tokens: what the GGUF does not carry.

    The defaults are transformers' for Qwen2.5-VL (Qwen2VLVideoProcessor, Qwen2VLImageProcessor,
    qwen_vl_utils). A visual token covers 28x28 pixels: 14-pixel patches merged two by two.
    """

    image_pixels: tuple[int, int] = (4 * 28 * 28, 16384 * 28 * 28)
    """Fewest and most pixels of a still picture."""
    video_pixels: tuple[int, int] = (128 * 28 * 28, 768 * 28 * 28)
    """Fewest and most pixels of one frame of a video."""
    fps: float = 2.0
    """Frames sampled from one second of video."""
    min_frames: int = 4
    max_frames: int = 768
    tokens_per_second: float = 2.0
    """M-RoPE's temporal positions in one second of video (config.json, vision_config)."""


@dataclass(frozen=True)
class SamplingDefaults:
    """Decoding parameters of free answers; MiMo-VL's deployment values by default."""

    temperature: float = 0.3
    top_p: float = 0.95


@dataclass(frozen=True)
class Calibration:
    """From the odds that a model gives to yes, to how often yes is right (Platt scaling).

    p = 1 / (1 + exp(-(a * logit + b))), where logit is ln(mass of yes / mass of no). The default
    leaves the model's own probability as it is.
    """

    a: float = 1.0
    b: float = 0.0

    def p_yes(self, logit: float) -> float:
        """The probability of yes."""
        return 1 / (1 + math.exp(min(max(-(self.a * logit + self.b), -700.0), 700.0)))


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; a seed of None is drawn anew each time."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    grammar: str | None = None
    """GBNF with a rule named root; the answer is then always a sentence of it."""


@dataclass(frozen=True)
class Budget:
    """What a request may cost. A field left None is the engine's default.

    Budget(visual_tokens=512, seconds=5)      # a quick look
    Budget(answer_tokens=64, thinking_tokens=256)
    """

    answer_tokens: int | None = None
    thinking_tokens: int | None = None
    seconds: float | None = None
    visual_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "visual_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"Budget.{name}: expected at least 1, got {value}")
        if self.thinking_tokens is not None and self.thinking_tokens < 0:
            raise ValueError(
                f"Budget.thinking_tokens: expected 0 or more, got {self.thinking_tokens}"
            )
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"Budget.seconds: expected more than 0, got {self.seconds}")


@dataclass(frozen=True)
class VisualTokens:
    """What the ViT and merger make of a temporal patch or a picture."""

    embeddings: NDArray[np.float32]
    """(h * w, n_embd) float32, row-major over the grid."""
    grid: tuple[int, int, int]
    """(t, h, w) in visual tokens; t is 1 for one temporal patch."""


@final
@dataclass(frozen=True)
class Box:
    """A rectangle in source pixels."""

    label: str
    xyxy: tuple[float, float, float, float]


@final
@dataclass(frozen=True)
class Point:
    """A place in source pixels."""

    label: str
    xy: tuple[float, float]


@dataclass(frozen=True)
class Span:
    """A stretch of the source, in its own seconds."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class TopToken:
    """One candidate token and its log probability before any sampling."""

    token: str
    id: int
    """-1 from a remote server that does not tell it."""
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """The token that was chosen and what else was likely in its place."""

    token: str
    id: int
    logprob: float
    top: tuple[TopToken, ...]


@dataclass(frozen=True)
class Usage:
    """Tokens of a request. `prompt_tokens` counts all of the prompt, cached or not."""

    prompt_tokens: int = 0
    visual_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Timings:
    """Seconds by stage; None where the stage does not apply."""

    load_s: float | None = None
    video_s: float | None = None
    vision_s: float | None = None
    prefill_s: float | None = None
    first_token_s: float | None = None
    generate_s: float | None = None
    total_s: float | None = None
    predicted_s: float | None = None
    """What was thought beforehand that it would take without decoding the video and loading, by
    the rates of then; None without a deadline or rates. Of an answer: for as many tokens as it
    came to have."""


@dataclass(frozen=True)
class Degraded:
    """What was asked for and what was used instead, in the caller's own units."""

    reason: str
    asked: dict[str, int | float]
    used: dict[str, int | float]


def together(first: Degraded | None, then: Degraded | None) -> Degraded | None:
    """What was given up at first, and what became of the rest."""
    if first is None or then is None:
        return first or then
    return Degraded(first.reason, {**then.asked, **first.asked}, {**first.used, **then.used})


@dataclass(frozen=True)
class Answer:
    """What the model said about a scene, and what it cost."""

    question: str
    text: str
    thinking: str | None
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    spans: tuple[Span, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = field(default=None)
    thinking_opened_by: TagWriter | None = None
    """Who wrote the first `<think>`; None where there is none, or a remote server hides it."""
    thinking_closed_by: TagWriter | None = None
    """Who wrote its `</think>`. The engine does when a budget is used up or the model would end
    inside its thought, and takes back a thought that the model opens though it was told not to:
    it was then opened by the model and closed by the engine, and `thinking` is None.
    """
    degraded: Degraded | None = None
    """What the answer did without for its deadline, beside what the look did."""

    @property
    def thought(self) -> bool:
        """Whether the model thought at all, also where that was taken back; blanks do not count."""
        taken_back = self.thinking_opened_by == "model" and self.thinking_closed_by == "engine"
        return self.thinking is not None or taken_back


Verdict = Literal["yes", "no", "unknown"]
DecisionPath = Literal["logits", "grammar", "forced", "remote", "none"]


@dataclass(frozen=True)
class Decision:
    """Whether a rule holds in a scene."""

    rule: str
    answer: Verdict
    p_yes: float | None
    """Probability of yes among yes and no, calibrated; None where the model was not asked."""
    outside_mass: float | None
    """Probability of every first word that means neither yes nor no."""
    path: DecisionPath
    """How p_yes was read. logits: off the first token of the answer. grammar: along the tokens of
    the words for yes and no, where the first does not tell. forced: after an empty thought, since
    the model was about to think. remote: from another server. none: not at all.
    """
    reason: str | None = None
    """A short word for why the answer is unknown."""
