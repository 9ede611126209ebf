"""What an evaluation finds, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Part:
    """A figure of some of the questions, and how many they are."""

    n: int
    value: float


@dataclass(frozen=True)
class CategoryScore:
    """Yes-or-no questions about one category, as in Table 1 of the report."""

    n: int
    positives: int
    tp: int
    fp: int
    fn: int
    tn: int
    unread: int
    """Answers that say neither yes nor no; counted as the wrong one of the two."""
    precision: float | None
    recall: float | None
    f1: Estimate


@dataclass(frozen=True)
class BinaryScore:
    """Yes-or-no questions."""

    n: int
    unread: int
    accuracy: float | None
    balanced_accuracy: Estimate
    macro_f1: Estimate
    categories: dict[str, CategoryScore]


@dataclass(frozen=True)
class ProbabilityScore:
    """What p_yes is worth, over the questions that have one."""

    n: int
    brier: Estimate
    ece: float | None
    auroc: Estimate
    abstention: float | None
    """Share of decisions that are "unknown"."""
    outside_mass: float | None
    """Mean probability of what is neither yes nor no."""


@dataclass(frozen=True)
class ShareScore:
    """Answers that are right or wrong: letters, exact texts."""

    n: int
    unread: int
    accuracy: Estimate
    categories: dict[str, Part]
    """Share of right answers by category."""


@dataclass(frozen=True)
class TemporalScore:
    """When something happens; IoU as lmms-eval's Charades-STA."""

    n: int
    unread: int
    miou: Estimate
    r_at_3: float | None
    r_at_5: float | None
    r_at_7: float | None
    categories: dict[str, Part]
    """mIoU by category."""


@dataclass(frozen=True)
class PointScore:
    """Where something is: whether the point, or the box's centre, lies inside the target."""

    n: int
    unread: int
    centre_accuracy: Estimate
    boxes: int
    """Answers with a box; the others that could be read gave a point."""
    box_miou: float | None
    """Mean IoU of those boxes."""
    categories: dict[str, Part]
    """Centre accuracy by category."""


@dataclass(frozen=True)
class ThinkingScore:
    """How the model keeps to /no_think, or to <think> … </think>."""

    think: bool
    answers: int
    thought: int
    """Answers with a thought, also one that was taken back under /no_think."""
    own_tags: int | None
    """Answers whose `<think>` and `</think>` the model wrote itself; None under /no_think."""
    thought_share: float | None
    """Of the answers; a model that keeps to /no_think has 0 there."""
    own_tags_share: float | None
    """Of the answers; None under /no_think."""


@dataclass(frozen=True)
class Spread:
    """Seconds: how many were measured, and their percentiles."""

    n: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True)
class Scores:
    """All that an evaluation found; a task that was not asked is None."""

    answers: BinaryScore | None
    """Yes-or-no questions by what the model wrote."""
    decisions: BinaryScore | None
    """The same questions by p_yes; "unknown" counts as wrong."""
    p_yes: ProbabilityScore | None
    choice: ShareScore | None
    temporal: TemporalScore | None
    point: PointScore | None
    exact: ShareScore | None
    slices: dict[str, dict[str, Part]]
    """By mark of the id or by split: share of right answers of each task."""
    thinking: ThinkingScore
    look_s: Spread
    """Decoding, ViT and prefill of a clip."""
    answer_s: Spread
    """Each question after that."""
    visual_tokens: float | None
    """Mean of a clip."""
    refused: dict[str, str]
    """Items whose media could not be shown, and why; their answers count as wrong."""
