"""From replies to scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from miloco_edge.evaluate import metrics
from miloco_edge.evaluate.journal import Reply
from miloco_edge.evaluate.judge import Verdict, judge
from miloco_edge.evaluate.manifest import TASKS, Item
from miloco_edge.evaluate.metrics import Bools, Floats, Indices
from miloco_edge.evaluate.scores import (
    BinaryScore,
    CategoryScore,
    Estimate,
    Part,
    PointScore,
    ProbabilityScore,
    Scores,
    ShareScore,
    Spread,
    TemporalScore,
    ThinkingScore,
)


@dataclass(frozen=True)
class _Judged:
    """The items of one task with what was made of them."""

    items: list[Item]
    replies: list[Reply]
    verdicts: list[Verdict]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def unread(self) -> int:
        return sum(not verdict.readable for verdict in self.verdicts)

    @property
    def right(self) -> Bools:
        return np.array([verdict.right for verdict in self.verdicts])

    @property
    def ious(self) -> Floats:
        return np.array([verdict.iou or 0.0 for verdict in self.verdicts])

    def estimate(self, statistic: Callable[[Indices], float | None]) -> Estimate:
        """A statistic of the items at some indices, with its interval over groups."""
        groups = np.array([item.group or item.id for item in self.items])
        found = metrics.interval(groups, statistic)
        low, high = found or (None, None)
        return Estimate(statistic(np.arange(len(self))), low, high)

    def by_category(self, values: Floats | Bools) -> dict[str, Part]:
        names = _categories(self.items)
        return {
            str(name): Part(int(of.sum()), float(values[of].mean()))
            for name in np.unique(names)
            for of in (names == name,)
        }


def score(items: Sequence[Item], replies: Sequence[Reply], *, think: bool) -> Scores:
    """Judge each reply by its item (same order) and sum up."""
    judged = {
        task: _judged([(i, r) for i, r in zip(items, replies, strict=True) if i.task == task])
        for task in TASKS
    }
    binary, temporal, point = judged["binary"], judged["temporal"], judged["point"]
    answered = [reply for reply in replies if reply.refused is None]
    looks = [reply.look_s for reply in answered if reply.look_s is not None]
    return Scores(
        answers=_binary(binary, [v.yes for v in binary.verdicts]),
        decisions=_binary(
            binary, [{"yes": True, "no": False}.get(r.decision or "") for r in binary.replies]
        ),
        p_yes=_probability(binary),
        choice=_share(judged["choice"]),
        temporal=_temporal(temporal),
        point=_point(point),
        exact=_share(judged["exact"]),
        slices=_slices([judged[task] for task in TASKS]),
        thinking=_thinking(answered, think=think),
        look_s=_spread(looks),
        answer_s=_spread([reply.answer_s for reply in answered]),
        visual_tokens=metrics.mean([r.visual_tokens for r in answered if r.look_s is not None]),
        refused={reply.id: reply.refused for reply in replies if reply.refused is not None},
    )


def _judged(pairs: list[tuple[Item, Reply]]) -> _Judged:
    return _Judged(
        [item for item, _ in pairs],
        [reply for _, reply in pairs],
        [judge(item, r.text, r.boxes, r.points, r.spans) for item, r in pairs],
    )


def _categories(items: Sequence[Item]) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return np.array([item.category or "all" for item in items])


def _binary(judged: _Judged, said: list[bool | None]) -> BinaryScore | None:
    """What cannot be read is taken for the wrong one of yes and no."""
    if not len(judged):
        return None
    is_yes = np.array([item.target == "yes" for item in judged.items])
    unread = np.array([each is None for each in said])
    said_yes = np.where(unread, ~is_yes, np.array([bool(each) for each in said]))
    names = _categories(judged.items)

    def f1_of(name: str) -> Callable[[Indices], float | None]:
        of = names == name

        def statistic(drawn: Indices) -> float | None:
            chosen = drawn[of[drawn]]
            return metrics.count(said_yes[chosen], is_yes[chosen]).f1

        return statistic

    categories: dict[str, CategoryScore] = {}
    for name in map(str, np.unique(names)):
        of = names == name
        counts = metrics.count(said_yes[of], is_yes[of])
        categories[name] = CategoryScore(
            n=int(of.sum()),
            positives=int(is_yes[of].sum()),
            tp=counts.tp, fp=counts.fp, fn=counts.fn, tn=counts.tn,
            unread=int(unread[of].sum()),
            precision=counts.precision,
            recall=counts.recall,
            f1=judged.estimate(f1_of(name)),
        )  # fmt: skip
    return BinaryScore(
        n=len(judged),
        unread=int(unread.sum()),
        accuracy=metrics.mean(said_yes == is_yes),
        balanced_accuracy=judged.estimate(
            lambda i: metrics.count(said_yes[i], is_yes[i]).balanced_accuracy
        ),
        macro_f1=judged.estimate(lambda i: metrics.macro_f1(said_yes[i], is_yes[i], names[i])),
        categories=categories,
    )


def _probability(judged: _Judged) -> ProbabilityScore | None:
    kept = [
        (item, reply, verdict)
        for item, reply, verdict in zip(judged.items, judged.replies, judged.verdicts, strict=True)
        if reply.p_yes is not None
    ]
    if not kept:
        return None
    some = _Judged(*(list(column) for column in zip(*kept, strict=True)))
    p_yes = np.array([reply.p_yes for reply in some.replies], float)
    is_yes = np.array([item.target == "yes" for item in some.items])
    masses = [r.outside_mass for r in some.replies if r.outside_mass is not None]
    return ProbabilityScore(
        n=len(some),
        brier=some.estimate(lambda i: metrics.brier(p_yes[i], is_yes[i])),
        ece=metrics.calibration_error(p_yes, is_yes),
        auroc=some.estimate(lambda i: metrics.auroc(p_yes[i], is_yes[i])),
        abstention=metrics.mean([reply.decision == "unknown" for reply in judged.replies]),
        outside_mass=metrics.mean(masses),
    )


def _share(judged: _Judged) -> ShareScore | None:
    if not len(judged):
        return None
    right = judged.right
    return ShareScore(
        n=len(judged),
        unread=judged.unread,
        accuracy=judged.estimate(lambda i: metrics.mean(right[i])),
        categories=judged.by_category(right),
    )


def _temporal(judged: _Judged) -> TemporalScore | None:
    if not len(judged):
        return None
    ious = judged.ious
    return TemporalScore(
        n=len(judged),
        unread=judged.unread,
        miou=judged.estimate(lambda i: metrics.mean(ious[i])),
        r_at_3=metrics.mean(ious >= 0.3),
        r_at_5=metrics.mean(ious >= 0.5),
        r_at_7=metrics.mean(ious >= 0.7),
        categories=judged.by_category(ious),
    )


def _point(judged: _Judged) -> PointScore | None:
    if not len(judged):
        return None
    right = judged.right
    boxes = [
        verdict.iou or 0.0
        for verdict, reply in zip(judged.verdicts, judged.replies, strict=True)
        if reply.boxes
    ]
    return PointScore(
        n=len(judged),
        unread=judged.unread,
        centre_accuracy=judged.estimate(lambda i: metrics.mean(right[i])),
        boxes=len(boxes),
        box_miou=metrics.mean(boxes),
        categories=judged.by_category(right),
    )


def _thinking(answered: Sequence[Reply], *, think: bool) -> ThinkingScore:
    own_tags = [reply.own_tags for reply in answered] if think else []
    return ThinkingScore(
        think,
        len(answered),
        sum(reply.thought for reply in answered),
        sum(own_tags) if think else None,
        metrics.mean([reply.thought for reply in answered]),
        metrics.mean(own_tags),
    )


def _slices(every: list[_Judged]) -> dict[str, dict[str, Part]]:
    splits = Counter(item.split for judged in every for item in judged.items)
    found: dict[str, dict[str, list[bool]]] = {}
    for judged in every:
        for item, verdict in zip(judged.items, judged.verdicts, strict=True):
            several = (item.split,) if len(splits) > 1 and item.split else ()
            for name in (*item.marks, *several):
                found.setdefault(name, {}).setdefault(item.task, []).append(verdict.right)
    return {
        name: {task: Part(len(rights), float(np.mean(rights))) for task, rights in tasks.items()}
        for name, tasks in sorted(found.items())
    }


def _spread(seconds: Sequence[float]) -> Spread:
    if not seconds:
        return Spread(0, None, None)
    p50, p95 = np.quantile(seconds, (0.5, 0.95))
    return Spread(len(seconds), float(p50), float(p95))
