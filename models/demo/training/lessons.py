"""What the ViT is taught first: what is seen where.

An answer to a question says little about where to look. So a head of its own, thrown away after
training, is asked of every visual token what it shows place by place, what the actor that it shows
is at, and how far off that actor's sides are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.demo.scenes import CATEGORIES, Scene
from models.demo.scenes.categories import NEAR_MISSES
from models.demo.scenes.stations import IDLE, PersonActor
from models.demo.scenes.truth import Actor

STATES = (
    *CATEGORIES,
    "waving",
    *NEAR_MISSES,
    *(f"{category}/{idle}" for category, idles in IDLE.items() for idle in idles),
)
TOKEN = 28
"""Pixels of a visual token's side."""
GRAIN = 7
"""Pixels between the places of a token where it is asked what is seen."""
PLACES = 2 * (TOKEN // GRAIN) ** 2
"""In both frames of a pair."""


@dataclass(frozen=True)
class Shown:
    """An actor in one frame, on the visual tokens of that frame's pair."""

    actor: int
    """Index into the plan's actors."""
    state: int
    """Index into STATES."""
    moment: int
    """0 or 1: first or second frame of its pair."""
    tokens: NDArray[np.int64]
    """(n,) indices into the clip's visual tokens."""
    sides: NDArray[np.float32]
    """(n, 4): from each token's middle to the box's left, top, right, bottom, in tokens."""


def shown(scene: Scene, pairs: list[tuple[int, int]]) -> list[Shown]:
    """Every actor in every frame of `pairs`, each a pair of frame indices."""
    _, height, width, _ = scene.frames.shape
    rows, columns = height // TOKEN, width // TOKEN
    found = []
    for p, pair in enumerate(pairs):
        for moment, frame in enumerate(pair):
            t = scene.plan.times_s[frame]
            for i, actor in enumerate(scene.plan.actors):
                state, box = _state(actor, t), scene.boxes[i][frame]
                if state is None or box is None:
                    continue
                tokens, sides = _covered(box, rows, columns)
                tokens = tokens + p * rows * columns
                found.append(Shown(i, STATES.index(state), moment, tokens, sides))
    return found


def parts(scene: Scene, pairs: list[tuple[int, int]]) -> NDArray[np.uint8]:
    """What is seen at PLACES places of each visual token of `pairs`: (v, PLACES), as in PARTS."""
    sparse = scene.parts[np.array(pairs), GRAIN // 2 :: GRAIN, GRAIN // 2 :: GRAIN]
    n, moments, h, w = sparse.shape
    side = TOKEN // GRAIN
    cells = sparse.reshape(n, moments, h // side, side, w // side, side)
    return np.ascontiguousarray(cells.transpose(0, 2, 4, 1, 3, 5)).reshape(-1, PLACES)


def _state(actor: Actor, t: float) -> str | None:
    if isinstance(actor, PersonActor):
        if actor.active(t):
            return actor.category
        return None if actor.absent else f"{actor.category}/{actor.idle}"
    shape = actor.shape(t)
    return "waving" if shape == "open_palm" and actor.waves else shape or None


def _covered(
    box: tuple[float, float, float, float], rows: int, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    x0, y0, x1, y1 = (side / TOKEN for side in box)
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    if not inside.any():
        inside = (np.abs(x - (x0 + x1) / 2) <= 0.5) & (np.abs(y - (y0 + y1) / 2) <= 0.5)
    sides = np.stack([x - x0, y - y0, x1 - x, y1 - y], -1)[inside]
    return np.flatnonzero(inside).astype(np.int64), sides.astype(np.float32)
