"""Yes-or-no questions about labelled media: for each rule as many no as yes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from zlib import crc32

from miloco_edge.evaluate.manifest import Item

# The report's own form (arXiv 2512.17436, 4.1).
_QUESTION = "Does the picture meet the following conditions: {rule}?"


@dataclass(frozen=True)
class Shown:
    """A picture or clip and what it is labelled with."""

    media: Path
    kind: str
    """Its class in the data set."""
    labels: frozenset[str]
    group: str
    """Who is in it."""


@dataclass(frozen=True)
class Rule:
    """A rule that holds for media with one of `labels`, and is not asked of those `near` it."""

    category: str
    text: str
    labels: frozenset[str]
    near: frozenset[str] = frozenset()


def ask_rules(
    benchmark: str, shown: Sequence[Shown], rules: Sequence[Rule], split: str | None
) -> Iterator[Item]:
    """Each rule about all media for which it holds and as many others, of all classes alike."""
    mixed = sorted(shown, key=lambda each: (crc32(each.media.name.encode()), each.media.name))
    for rule in rules:
        yes = [each for each in mixed if each.labels & rule.labels]
        others: dict[str, list[Shown]] = {}
        for each in mixed:
            if not each.labels & (rule.labels | rule.near):
                others.setdefault(each.kind, []).append(each)
        taken = chain.from_iterable(zip_longest(*(others[kind] for kind in sorted(others))))
        no = [each for each in taken if each is not None][: len(yes)]
        for target, chosen in (("yes", yes), ("no", no)):
            for each in chosen:
                yield Item(
                    id=f"{benchmark}/{each.media.stem}-{rule.category}",
                    task="binary",
                    media=(each.media,),
                    question=_QUESTION.format(rule=rule.text),
                    target=target,
                    category=rule.category,
                    group=each.group,
                    split=split,
                )
