"""What the cameras show: drawn rooms in which something begins and ends at known moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.demo.scenes.categories import ACTIVITIES
from models.demo.scenes.compose import plan
from models.demo.scenes.render import source_frames
from models.demo.scenes.seeds import SEEDS
from models.demo.scenes.stations import ABSENT, PersonActor

SIZE = (224, 168)
"""48 visual tokens a pair, as the clips of six frames that the demo model was trained on."""
FPS = 4
LOOP_S = 10
"""So long somebody goes on before it is shown again, backwards."""

Film = NDArray[np.uint8]
"""(n, h, w, 3) uint8, RGB."""


@dataclass(frozen=True)
class Block:
    """A stretch of a film, in seconds from its start."""

    start_s: float
    end_s: float
    category: str | None
    """What somebody is doing all the time; None: the same room, and nobody there."""


Reads = Callable[[Film, str | None], bool]
"""Whether a model tells what is to be seen in a film, and nothing else."""


def script(
    seed: int, seconds: float, path: Path, reads: Reads, block_s: float = 30.0
) -> tuple[list[Block], int]:
    """Write a film in which each activity is preceded by its room without anybody.

    Says what is to be seen when, and how many rooms were left out because the model, asked alone,
    does not read them: what is lost in the others is lost by the hub. Noise is new in each frame,
    as a sensor's is.
    """
    random = np.random.default_rng(seed)
    rooms, left_out = {}, 0
    for activity in ACTIVITIES:
        rooms[activity], unread = _rooms(activity, seed, reads)
        left_out += unread
    blocks: list[Block] = []
    with _Writer(path, random) as writer:
        while not blocks or blocks[-1].end_s < seconds:
            last = blocks[-1].category if blocks else None
            category = str(random.choice([each for each in ACTIVITIES if each != last]))
            room = rooms[category][int(random.integers(len(rooms[category])))]
            for what, film in zip((None, category), room, strict=True):
                start_s = writer.seconds
                writer.show(film, block_s)
                blocks.append(Block(start_s, writer.seconds, what))
    return blocks, left_out


def still(seed: int, seconds: float, path: Path) -> None:
    """Write a film of a room in which nothing happens but the sensor's noise."""
    empty = next(_search("reading", seed))[0][:1]
    with _Writer(path, np.random.default_rng(seed)) as writer:
        writer.show(empty, seconds)


def _rooms(category: str, seed: int, reads: Reads) -> tuple[list[tuple[Film, Film]], int]:
    """Two rooms without and with one person who does the same all the time; how many not read."""
    rooms: list[tuple[Film, Film]] = []
    left_out = 0
    for empty, busy in _search(category, seed):
        if reads(empty, None) and reads(busy, category):
            rooms.append((empty, busy))
        else:
            left_out += 1
        if len(rooms) == 2:
            break
    return rooms, left_out


def _search(category: str, seed: int) -> Iterator[tuple[Film, Film]]:
    for number in range(SEEDS["test"].start + seed * 100_000, SEEDS["test"].stop):
        planned = plan(number)
        actor = planned.actors[0] if len(planned.actors) == 1 else None
        if not isinstance(actor, PersonActor) or actor.category != category:
            continue
        whole = actor.start_s == 0 and actor.end_s >= planned.seconds
        if not whole or planned.size != SIZE:
            continue
        longer = replace(planned, source_fps=FPS, count=FPS * LOOP_S)
        gone = replace(actor, idle=ABSENT, start_s=0.0, end_s=0.0)
        busy = replace(actor, end_s=float(LOOP_S))
        yield (
            source_frames(replace(longer, actors=(gone,))),
            source_frames(replace(longer, actors=(busy,))),
        )


class _Writer:
    """A film under way."""

    def __init__(self, path: Path, random: np.random.Generator) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE)
        self._random = random
        self._frames = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.release()

    @property
    def seconds(self) -> float:
        return self._frames / FPS

    def show(self, film: Film, seconds: float) -> None:
        """Go through the film there and back again until the time is over."""
        there_and_back = np.concatenate([film, film[-2:0:-1]])
        for i in range(round(seconds * FPS)):
            picture = there_and_back[i % len(there_and_back)]
            noise = self._random.integers(0, 4, picture.shape, dtype=np.uint8)
            self._writer.write(cv2.add(picture, noise)[..., ::-1])
        self._frames += round(seconds * FPS)
