"""A seed becomes a training sample: pixels, token ids, positions and what is to be learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from miloco_edge.prompt import grid_positions, next_position, temporal_step
from miloco_edge.prompt.chat import VISION_END, VISION_START
from models.demo.questions import Task
from models.demo.scenes import Scene, plan, render
from models.demo.scenes.render import render_plan
from models.demo.scenes.seeds import Dice
from models.demo.training.conversation import Conversation, Exchange, converse, id_of, ids_of
from models.demo.training.lessons import STATES, Shown, parts, shown
from models.demo.training.schedule import KINDS, Kind, Stage

Layout = Literal["video", "images"]

SIDES = (" left", " right", "左边的", "右边的")
ANSWERS: dict[Task, Kind] = {"binary": "verdict", "temporal": "time"}
IMAGES_SHARE = 0.12
"""Of the clips with at most four frames, those shown as pictures of their own."""


@dataclass(frozen=True)
class Gaze:
    """Where to look while something is said. Both index the sample's ids."""

    rows: NDArray[np.int64]
    """(m,): whose next ids are said."""
    tokens: NDArray[np.int64]
    """(k,): visual tokens of those that the answer is about."""
    box: NDArray[np.float32]
    """(4,): left, top, right and bottom of those, in tokens."""


@dataclass(frozen=True)
class Sample:
    """A clip and what is said about it.

    `ids` and all beside it are of the same length n: the prompt's opening and the media
    (segment 0), then each exchange (1, 2, ...), which sees segment 0 and itself alone.
    """

    seed: int
    patches: NDArray[np.uint8]
    """(p, 1176): as Qwen2VLImageProcessor lays them out, before normalisation."""
    grids: list[tuple[int, int, int]]
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    """(3, n)."""
    segments: NDArray[np.int64]
    weights: NDArray[np.float32]
    """How much is learnt from an id as the next token; 0 for a prompt's."""
    kinds: NDArray[np.int64]
    """Of KINDS."""
    shown: list[Shown]
    gazes: list[Gaze]
    places: NDArray[np.float32]
    """(v, 2): column and row of each visual token's middle."""
    parts: NDArray[np.uint8]
    """(v, 32): what is seen at 16 places of each visual token in both frames of its pair."""
    conversation: Conversation


def make_sample(
    seed: int, tokenizer: Tokenizer, questions: int, draw: int = 0, stage: Stage = "supervised"
) -> Sample:
    """The sample of a seed; the same one every time for a `draw`."""
    scene = render(seed)
    dice = Dice(seed, "layout", draw)
    images = len(scene.frames) <= 4 and dice.chance(IMAGES_SHARE)
    talk = converse(scene, tokenizer, questions, draw, stage)
    return lay_out(scene, talk, tokenizer, "images" if images else "video")


def make_glimpse(seed: int, tokenizer: Tokenizer) -> Sample:
    """One pair of neighbouring frames of a seed's clip, with nothing said about it."""
    planned = plan(seed)
    first = 2 * Dice(seed, "glimpse").below(len(planned.indices) // 2)
    scene = render_plan(replace(planned, indices=planned.indices[first : first + 2]))
    return lay_out(scene, Conversation([], []), tokenizer, "video")


def lay_out(
    scene: Scene, conversation: Conversation, tokenizer: Tokenizer, layout: Layout
) -> Sample:
    """Put a scene and a conversation about it in the order that the runtime feeds them in."""
    count, height, width, _ = scene.frames.shape
    if layout == "video":
        pairs = [(i, i + 1) for i in range(0, count, 2)]
        grids = [(count // 2, height // 14, width // 14)]
    else:
        pairs = [(i, i) for i in range(count)]
        grids = [(1, height // 14, width // 14)] * count
    step = temporal_step(scene.fps)
    medium = "<|video_pad|>" if layout == "video" else "<|image_pad|>"
    start, end, pad = (id_of(one, tokenizer) for one in (VISION_START, VISION_END, medium))
    ids: list[int] = list(conversation.opening)
    positions: list[NDArray[np.integer]] = [np.tile(np.arange(len(ids)), (3, 1))]
    at = len(ids)
    for t, h, w in grids:
        grid = (t, h // 2, w // 2)
        positions.append(np.full((3, 1), at))
        positions.append(grid_positions(at + 1, grid, step))
        at = next_position(at + 1, grid, step)
        positions.append(np.full((3, 1), at))
        at += 1
        ids += [start, *[pad] * (t * h * w // 4), end]
    segments = [0] * len(ids)
    weights = [0.0] * len(ids)
    kinds = [0] * len(ids)
    actors = shown(scene, pairs)
    visual = np.flatnonzero(np.array(ids) == pad)
    places = np.concatenate([_middles(*grid) for grid in grids])
    gazes = []
    for i, exchange in enumerate(conversation.exchanges):
        n = len(exchange.ids)
        tokens = _looked_at(exchange, actors)
        if len(tokens):
            rows = len(ids) + _concluding(exchange, tokenizer) - 1
            middles = places[tokens]
            box = np.concatenate([middles.min(0) - 0.5, middles.max(0) + 0.5])
            gazes.append(Gaze(rows, visual[tokens], box))
        ids += exchange.ids
        positions.append(np.tile(np.arange(at, at + n), (3, 1)))
        segments += [i + 1] * n
        weights += _weights(exchange, tokenizer)
        kinds += _kinds(exchange, tokenizer)
    return Sample(
        scene.plan.seed,
        patches(scene.frames, pairs),
        grids,
        np.array(ids, np.int64),
        np.concatenate(positions, 1).astype(np.int64),
        np.array(segments, np.int64),
        np.array(weights, np.float32),
        np.array(kinds, np.int64),
        actors,
        gazes,
        places,
        parts(scene, pairs),
        conversation,
    )


def _middles(t: int, h: int, w: int) -> NDArray[np.float32]:
    """Of the visual tokens of a grid of patches."""
    row, column = np.indices((t, h // 2, w // 2), np.float32)[1:]
    return np.stack([column, row], -1).reshape(-1, 2) + np.float32(0.5)


def _looked_at(exchange: Exchange, actors: list[Shown]) -> NDArray[np.int64]:
    """Visual tokens of those that an answer is about, while they do what it is about."""
    about = exchange.about
    states = {"waving", "open_palm"} if about.category == "open_palm" else {about.category}
    seen = [actor for actor in actors if actor.actor in about.actors]
    doing = [actor for actor in seen if STATES[actor.state] in states]
    return np.unique(
        np.concatenate([np.zeros(0, np.int64), *(one.tokens for one in doing or seen)])
    )


def _concluding(exchange: Exchange, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Which ids of an exchange are its answer, or the end of its thought unless that was cut."""
    about = exchange.about
    said = np.flatnonzero(exchange.learn_from)
    whole = said[-1] - said[0] == len(said) - 1
    texts = (about.conclusion, about.answer) if exchange.think and whole else (about.answer,)
    return said[-sum(len(ids_of(text, tokenizer)) for text in texts) - 1 :]


def _answer_begins(exchange: Exchange, tokenizer: Tokenizer) -> int:
    """Where the answer begins among the ids of an exchange; the end of the turn follows it."""
    return len(exchange.ids) - len(ids_of(exchange.about.answer, tokenizer)) - 1


def _weights(exchange: Exchange, tokenizer: Tokenizer) -> list[float]:
    """Of each id of an exchange: between a mean over tokens and one over thoughts and answers.

    An answer weighs as much after a long thought as at once: with one mean over both, a yes of
    two tokens would be drowned, and thoughts would be learnt without what follows from them.
    """
    begin = _answer_begins(exchange, tokenizer)
    answer = len(exchange.ids) - begin
    thought = sum(exchange.learn_from) - answer
    return [
        (answer if i >= begin else thought) ** -0.5 if learn else 0.0
        for i, learn in enumerate(exchange.learn_from)
    ]


def _kinds(exchange: Exchange, tokenizer: Tokenizer) -> list[int]:
    """Of each id of an exchange; sides, and numbers in a thought, are what they are."""
    about, begin = exchange.about, _answer_begins(exchange, tokenizer)
    sides = {id for side in SIDES for id in ids_of(side, tokenizer)}
    last = ANSWERS.get(about.task, "word")
    found: list[int] = []
    for i, id in enumerate(exchange.ids):
        kind: Kind = last if i >= begin else "thought"
        if id in sides:
            kind = "side"
        elif kind == "thought" and about.task != "point" and tokenizer.decode([id]).isdigit():
            kind = "time"
        found.append(KINDS.index(kind))
    return found


def patches(frames: NDArray[np.uint8], pairs: list[tuple[int, int]]) -> NDArray[np.uint8]:
    """Pairs of frames (n, h, w, 3) as patches (p, 1176), ordered as transformers does."""
    _, height, width, _ = frames.shape
    h, w = height // 14, width // 14
    stacked = frames[np.array(pairs)].reshape(len(pairs), 2, h // 2, 2, 14, w // 2, 2, 14, 3)
    return np.ascontiguousarray(stacked.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)).reshape(-1, 1176)
