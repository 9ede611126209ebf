"""A plan becomes pixels and boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.demo.scenes.canvas import Box, Canvas
from models.demo.scenes.capture import MARGIN, Sensor
from models.demo.scenes.compose import plan
from models.demo.scenes.gestures import draw_gesture
from models.demo.scenes.rooms import draw_room, draw_room_live
from models.demo.scenes.staging import draw_live, draw_set
from models.demo.scenes.stations import PersonActor
from models.demo.scenes.truth import Plan, Scene

LEAST_SIDE = 8.0
"""Of a box, in pixels: less than that inside the frame is not there."""

Pixels = NDArray[np.uint8]


def render(seed: int) -> Scene:
    """The clip of a seed, as the model sees it. Raises ValueError for a seed of no split."""
    return render_plan(plan(seed))


def render_plan(planned: Plan) -> Scene:
    """The clip of a plan, as the model sees it."""
    shown = list(_draw(planned, planned.indices))
    frames, boxes, parts = zip(*shown, strict=True)
    return Scene(planned, np.stack(frames), tuple(zip(*boxes, strict=True)), np.stack(parts))


def source_frames(planned: Plan) -> Pixels:
    """All frames of the clip's source: (count, h, w, 3) uint8, RGB."""
    return np.stack([pixels for pixels, _, _ in _draw(planned, range(planned.count))])


def _draw(planned: Plan, ticks: Iterable[int]) -> Iterator[tuple[Pixels, list[Box | None], Pixels]]:
    """Frames of the source, where each actor is in them, and what each pixel shows."""
    width, height = planned.size
    wide = np.zeros((height + 2 * MARGIN, width + 2 * MARGIN, 3), np.uint8)
    wide_parts = np.zeros(wide.shape[:2], np.uint8)
    still = Canvas(wide, planned.style, height, (MARGIN, MARGIN), wide_parts)
    draw_room(still, planned.room, width, height, MARGIN)
    for person in planned.persons:
        draw_set(still, person)
    sensor = Sensor(planned.camera, planned.seed, planned.size)
    for tick in ticks:
        t = tick / planned.source_fps
        dx, dy = planned.camera.drift(planned.seed, tick)
        x, y = MARGIN + dx, MARGIN + dy
        pixels = wide[y : y + height, x : x + width].copy()
        parts = wide_parts[y : y + height, x : x + width].copy()
        canvas = Canvas(pixels, planned.style, height, (-dx, -dy), parts)
        draw_room_live(canvas, planned.room, height, t)
        boxes: list[Box | None] = []
        for actor in planned.actors:
            found = (
                draw_live(canvas, actor, t)
                if isinstance(actor, PersonActor)
                else draw_gesture(canvas, actor, t)
            )
            boxes.append(None if found is None else _clip(found, width, height))
        yield sensor.take(pixels, tick), boxes, parts


def _clip(box: list[float], width: int, height: int) -> Box | None:
    """The part of a box inside the frame; None if hardly any is."""
    x0, y0 = max(0.0, box[0]), max(0.0, box[1])
    x1, y1 = min(float(width), box[2]), min(float(height), box[3])
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= LEAST_SIDE else None
