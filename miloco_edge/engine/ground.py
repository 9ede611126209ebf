"""From what an answer points at to the source that the camera recorded."""

from __future__ import annotations

from miloco_edge.prompt import temporal_step
from miloco_edge.prompt.grounding import Grounding, parse_grounding
from miloco_edge.types import Span
from miloco_edge.video import FittedClip


def ground(text: str, clip: FittedClip | None, tokens_per_second: float) -> Grounding:
    """What the answer points at, in source pixels and source seconds.

    Boxes and points are taken to speak of the first frame. A temporal patch lasts 2 / fps seconds
    and the model takes it for step / tokens_per_second, which is the same at 2 and at 1 fps.
    """
    if clip is None:
        return Grounding()
    found = parse_grounding(text)
    scale = 2 / clip.fps * tokens_per_second / temporal_step(clip.fps, tokens_per_second)
    start = clip.times_s[0]
    return Grounding(
        tuple(clip.to_source(box) for box in found.boxes),
        tuple(clip.to_source(point) for point in found.points),
        tuple(
            Span(span.label, start + span.start_s * scale, start + span.end_s * scale)
            for span in found.spans
        ),
    )
