"""What the cameras show: drawn rooms in which something begins and ends at known moments."""

from __future__ import annotations

from collections.abc import Iterator
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

SIZE = (336, 252)
FPS = 5

Film = NDArray[np.uint8]
"""(n, h, w, 3) uint8, RGB."""


@dataclass(frozen=True)
class Block:
    """A stretch of a film, in seconds from its start."""

    start_s: float
    end_s: float
    category: str | None
    """What somebody is doing all the time; None: the same room, and nobody there."""


def script(seed: int, seconds: float, path: Path, block_s: float = 30.0) -> list[Block]:
    """Write a film in which each activity is preceded by its room without anybody.

    Says what is to be seen when. Noise is new in each frame, as a sensor's is.
    """
    random = np.random.default_rng(seed)
    rooms = {each: _rooms(each, seed) for each in ACTIVITIES}
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
    return blocks


def still(seed: int, seconds: float, path: Path) -> None:
    """Write a film of a room in which nothing happens but the sensor's noise."""
    empty = _rooms("reading", seed, count=1)[0][0][:1]
    with _Writer(path, np.random.default_rng(seed)) as writer:
        writer.show(empty, seconds)


def _rooms(category: str, seed: int, count: int = 2) -> list[tuple[Film, Film]]:
    """Rooms without and with one person who does the same all the time."""
    return [found for found, _ in zip(_search(category, seed), range(count), strict=False)]


def _search(category: str, seed: int) -> Iterator[tuple[Film, Film]]:
    for number in range(SEEDS["test"].start + seed * 100_000, SEEDS["test"].stop):
        planned = plan(number)
        actor = planned.actors[0] if len(planned.actors) == 1 else None
        if not isinstance(actor, PersonActor) or actor.category != category:
            continue
        whole = actor.start_s == 0 and actor.end_s >= planned.seconds
        if not whole or not 1.2 < planned.size[0] / planned.size[1] < 1.5:
            continue
        gone = replace(actor, idle=ABSENT, start_s=0.0, end_s=0.0)
        every = max(1, planned.source_fps // FPS)
        empty, busy = (
            np.stack([cv2.resize(f, SIZE, interpolation=cv2.INTER_AREA) for f in frames[::every]])
            for frames in (source_frames(replace(planned, actors=(gone,))), source_frames(planned))
        )
        yield empty, busy


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
