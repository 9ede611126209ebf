"""What a clip shows: its plan, made before anything is drawn, and the scene with its frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.demo.scenes.canvas import Box
from models.demo.scenes.capture import Camera
from models.demo.scenes.gestures import HandActor
from models.demo.scenes.rooms import Room
from models.demo.scenes.stations import PersonActor
from models.demo.scenes.styles import Style

Actor = PersonActor | HandActor


@dataclass(frozen=True)
class Event:
    """A category that is there for a while. Seconds of the clip; the end is not included."""

    category: str
    start_s: float
    end_s: float
    actor: int
    """Whose doing it is: an index into `Plan.actors`."""


@dataclass(frozen=True)
class Plan:
    """Everything about a clip but its pixels.

    The source shows `count` frames at `source_fps`. Of these the model sees `len(indices)`, spread
    evenly with both end points as miloco_edge.video samples a file: one in each 1 / `fps` seconds.
    Events begin and end on whole half seconds, so they are told exactly by the sampled frames.
    """

    seed: int
    split: str
    size: tuple[int, int]
    """(width, height), multiples of 28."""
    source_fps: int
    count: int
    indices: tuple[int, ...]
    """Sampled frames of the source, ascending."""
    fps: int
    """Sampled frames per second."""
    style: Style
    room: Room
    camera: Camera
    actors: tuple[Actor, ...]
    """From left to right."""

    @property
    def seconds(self) -> float:
        """How long the clip lasts."""
        return self.count / self.source_fps

    @property
    def times_s(self) -> tuple[float, ...]:
        """When each sampled frame is shown."""
        return tuple(i / self.source_fps for i in self.indices)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """What happens, from left to right."""
        return tuple(
            Event(actor.category, actor.start_s, actor.end_s, i)
            for i, actor in enumerate(self.actors)
            if actor.end_s > actor.start_s and actor.category is not None
        )

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that are there at some time, from left to right, each once."""
        return tuple(dict.fromkeys(event.category for event in self.events))

    @cached_property
    def near_misses(self) -> frozenset[str]:
        """Categories that are absent, but that something in the clip was drawn to resemble."""
        seen = {c for actor in self.actors for c in actor.resembles(self.seconds)}
        return frozenset(seen | set(self.room.resembles)) - set(self.categories)

    def _persons(self) -> Iterator[PersonActor]:
        return (actor for actor in self.actors if isinstance(actor, PersonActor))

    @property
    def persons(self) -> tuple[PersonActor, ...]:
        """The people seen whole."""
        return tuple(self._persons())

    @property
    def hands(self) -> tuple[HandActor, ...]:
        """The hands seen close."""
        return tuple(actor for actor in self.actors if isinstance(actor, HandActor))

    @property
    def waving(self) -> bool:
        """Whether an open hand is waved."""
        return any(hand.waves for hand in self.hands)


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip as the model sees it, with what is true of it."""

    plan: Plan
    frames: NDArray[np.uint8]
    """(n, h, w, 3) uint8, RGB."""
    boxes: tuple[tuple[Box | None, ...], ...]
    """For each actor, where it is in each frame: x0, y0, x1, y1 in pixels, or None."""
    parts: NDArray[np.uint8]
    """(n, h, w): what each pixel shows, as an index into PARTS."""

    @property
    def fps(self) -> int:
        """Sampled frames per second."""
        return self.plan.fps

    def box(self, actor: int, event: Event | None = None) -> Box | None:
        """Where an actor is: the mean over the frames (of an event) that show it; None if none."""
        shown = [
            box
            for box, t in zip(self.boxes[actor], self.plan.times_s, strict=True)
            if box is not None and (event is None or event.start_s <= t < event.end_s)
        ]
        if not shown:
            return None
        x0, y0, x1, y1 = (sum(side) / len(shown) for side in zip(*shown, strict=True))
        return x0, y0, x1, y1
