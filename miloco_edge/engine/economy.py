"""What may be left out of a look: which frame pairs and which visual tokens. Pure functions.

Every measure is off by default ("exact"); what the hub uses is `LIVE`. Whatever is left out, what
stays keeps the position that it has in the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from miloco_edge.types import RGB, VisualTokens
from miloco_edge.video.resize import FACTOR, resize

Mode = Literal["exact", "live"]

_BLOCK = 7
"""Pixels; a quarter of a visual token's side. Over 49 of them a sensor's noise averages out."""

Bools = NDArray[np.bool_]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Closer:
    """A cheap look first, and a closer one for what it leaves in doubt."""

    share: float = 0.25
    """Visual tokens of the cheap look, of those of the closer one."""
    doubt: float = 0.3
    """A p_yes that is nearer than this to 0.5 is in doubt."""
    enough: float = 1.0
    """Share of the rules that have to be decided for the closer look to be left out."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"Closer.share: expected between 0 and 1, got {self.share}")
        if not 0 <= self.doubt <= 0.5:
            raise ValueError(f"Closer.doubt: expected from 0 to 0.5, got {self.doubt}")
        if not 0 < self.enough <= 1:
            raise ValueError(f"Closer.enough: expected more than 0, 1 at most, got {self.enough}")


@dataclass(frozen=True)
class Economy:
    """What may be left out of a look at a video for a quicker answer; by default nothing.

    Economy(static_below=8)               # pairs in which nothing has changed
    Economy(prune_share=0.5)              # half of the tokens, those that have changed least
    """

    static_below: float | None = None
    """Leave out frame pairs no part of which differs by so many levels (of 255) from the
    last one that was kept; before the ViT."""
    coarse_below: float | None = None
    """Show frame pairs at half their width and height no part of which differs by so many levels
    from the last one that was shown whole; before the ViT."""
    prune_above: float | None = None
    """Leave out visual tokens whose cosine with the last one kept at their place is above this
    (after DTD, arXiv 2504.17343); after the ViT."""
    prune_share: float | None = None
    """Leave out this share of the visual tokens, those most like the pair before; the first pair
    stays whole (after EVS, arXiv 2510.14624)."""
    streaming: int = 0
    """Keep the KV of pairs that the window before had, too: forget those that are gone, append
    the new ones at their own time, for at most so many pairs from the first; then begin anew."""
    closer: Closer | None = None
    """For rules: look twice where that is needed."""

    def __post_init__(self) -> None:
        for name in ("static_below", "coarse_below"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 255:
                raise ValueError(f"Economy.{name}: expected levels of 255, got {value}")
        for name in ("prune_above", "prune_share"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"Economy.{name}: expected between 0 and 1, got {value}")
        if self.prune_above is not None and self.prune_share is not None:
            raise ValueError("Economy: expected prune_above or prune_share, got both")
        if self.streaming < 0:
            raise ValueError(f"Economy.streaming: expected 0 or more, got {self.streaming}")
        pruned = self.prune_above or self.prune_share
        if self.streaming and (pruned or self.coarse_below):
            # What was left out for being like an older token would be gone together with it.
            raise ValueError("Economy.streaming: expected whole pairs, got some that are not")
        if self.coarse_below and pruned:  # tokens are compared place by place
            raise ValueError("Economy.coarse_below: expected no pruning beside it, got some")


EXACT = Economy()
LIVE = Economy(static_below=8.0)
MODES: Mapping[Mode, Economy] = dict(zip(get_args(Mode), (EXACT, LIVE), strict=True))


def economy_of(wanted: Economy | Mode) -> Economy:
    """The economy that a mode stands for. Raises ValueError for a mode that there is not."""
    if isinstance(wanted, Economy):
        return wanted
    if wanted not in MODES:
        raise ValueError(f"economy: expected one of {', '.join(MODES)}, got {wanted!r}")
    return MODES[wanted]


@dataclass(frozen=True)
class Savings:
    """What a look at a video did without."""

    pairs: int = 0
    """Frame pairs of the clip."""
    static: int = 0
    """Pairs left out, in which nothing has changed."""
    coarse: int = 0
    """Pairs shown at half their width and height, in which little has changed."""
    remembered: int = 0
    """Pairs whose visual tokens were known: no ViT."""
    streamed: int = 0
    """Pairs whose KV was there already: no ViT and no prefill."""
    pruned_tokens: int = 0
    """Visual tokens left out after the ViT."""
    late: int = 0
    """Pairs left out because the machine was slower than planned and a deadline near."""


def change(a: RGB, b: RGB) -> float:
    """How much two pictures differ where they do most: levels of the mean of 7x7 pixels.

    (h, w, 3) uint8 of one size whose sides are multiples of 7.
    """
    height, width, _ = a.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    strips = (a.astype(np.int16) - b).reshape(rows, _BLOCK, width * 3)
    blocks = strips.sum(axis=1, dtype=np.int32).reshape(rows, columns, _BLOCK, 3).sum(axis=2)
    return float(np.abs(blocks).max()) / _BLOCK**2


def is_static(pair: Sequence[RGB], kept: Sequence[RGB], below: float) -> bool:
    """Whether no frame of a pair differs from any of the one that was kept.

    Something that comes and goes within each pair, as a waving hand, is never static.
    """
    return all(change(now, then) < below for now in pair for then in kept)


def changed_pairs(
    pairs: Sequence[tuple[RGB, ...]], last: tuple[RGB, ...] | None, below: float | None
) -> list[int]:
    """Which pairs are kept: those that differ from the one kept before them.

    `last` is what was kept before the first; without one, the first is kept.
    """
    if below is None:
        return list(range(len(pairs)))
    kept = []
    for i, pair in enumerate(pairs):
        if last is None or not is_static(pair, last, below):
            kept.append(i)
            last = pair
    return kept


def coarse_pairs(pairs: Mapping[int, tuple[RGB, ...]], below: float | None) -> list[int]:
    """Which of the pairs, by number and in order, are shown small: those like the last whole one.

    The first is whole, and so is every pair of a size that has no half.
    """
    coarse: list[int] = []
    whole: tuple[RGB, ...] | None = None
    for i, pair in pairs.items():
        if below is None or half_size(pair[0]) is None:
            continue
        if whole is not None and is_static(pair, whole, below):
            coarse.append(i)
        else:
            whole = pair
    return coarse


def half_size(frame: RGB) -> tuple[int, int] | None:
    """The legal (width, height) of about half a frame's sides; None below two tokens a side."""
    height, width = (side // FACTOR for side in frame.shape[:2])
    return None if min(width, height) < 2 else (width // 2 * FACTOR, height // 2 * FACTOR)


def shown_pairs(
    pairs: Sequence[tuple[RGB, ...]],
    last: tuple[RGB, ...] | None,
    economy: Economy,
    control: np.random.Generator | None = None,
) -> dict[int, tuple[RGB, ...]]:
    """The frames of every pair that is shown, by its number; those of some are smaller.

    `last` is as `changed_pairs` has it. With `control` as many are chosen by chance.
    """
    chosen = changed_pairs(pairs, last, economy.static_below)
    if control is not None:
        chosen = sorted(control.permutation(len(pairs))[: len(chosen)].tolist())
    shown = {i: pairs[i] for i in chosen}
    coarse = coarse_pairs(shown, economy.coarse_below)
    if control is not None:
        coarse = control.permutation(chosen)[: len(coarse)].tolist()
    for i in coarse:
        size = half_size(pairs[i][0])
        assert size is not None
        shown[i] = tuple(resize(frame, size) for frame in pairs[i])
    return shown


def kept_tokens(
    seen: Sequence[VisualTokens], economy: Economy, control: np.random.Generator | None = None
) -> list[Bools]:
    """Which tokens of each pair are kept: (n,) of each; with `control` as many by chance."""
    if economy.prune_above is None and economy.prune_share is None:
        return [np.ones(len(each.embeddings), np.bool_) for each in seen]
    kept = changed_tokens(np.stack([each.embeddings for each in seen]), economy)
    if control is not None:
        kept = control.permuted(kept.ravel()).reshape(kept.shape)
    return list(kept)


def changed_tokens(embeddings: Embeddings, economy: Economy) -> Bools:
    """Which visual tokens are kept: (t, n) of embeddings (t, n, n_embd), all of the first pair."""
    if economy.prune_above is not None:
        return _unlike_last_kept(embeddings, economy.prune_above)
    if economy.prune_share is not None:
        return _most_changed(embeddings, economy.prune_share)
    return np.ones(embeddings.shape[:2], np.bool_)


def _unlike_last_kept(embeddings: Embeddings, above: float) -> Bools:
    unit = _unit(embeddings)
    kept = np.ones(unit.shape[:2], np.bool_)
    last = unit[0].copy()
    for i in range(1, len(unit)):
        kept[i] = (unit[i] * last).sum(axis=-1) <= above
        last[kept[i]] = unit[i][kept[i]]
    return kept


def _most_changed(embeddings: Embeddings, share: float) -> Bools:
    unit = _unit(embeddings)
    pairs, tokens, _ = unit.shape
    change = np.full((pairs, tokens), np.inf, np.float32)
    change[1:] = 1 - (unit[1:] * unit[:-1]).sum(axis=-1)
    count = max(tokens, int(pairs * tokens * (1 - share)))
    kept = np.zeros(pairs * tokens, np.bool_)
    kept[np.argsort(-change.ravel(), kind="stable")[:count]] = True
    return kept.reshape(pairs, tokens)


def _unit(embeddings: Embeddings) -> Embeddings:
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    unit: Embeddings = embeddings / np.maximum(lengths, np.float32(1e-12))
    return unit
