"""The model speaks of the frames that it was shown; an answer, of what the camera recorded."""

from __future__ import annotations

import numpy as np
import pytest

from miloco_edge.engine.ground import ground
from miloco_edge.types import Preprocessor
from miloco_edge.video import Clip, FittedClip, fit


def shown(fps: float) -> FittedClip:
    """Four frames of 1920x1080 from 10 s on, as the model is shown them: 1008x560."""
    frames = [np.zeros((1080, 1920, 3), np.uint8)] * 4
    times = [10 + i / fps for i in range(4)]
    fitted = fit(Clip.from_frames(frames, fps, times=times), Preprocessor())
    assert fitted.size == (1008, 560)
    return fitted


def test_boxes_and_points_are_in_source_pixels() -> None:
    found = ground('[{"bbox_2d": [0, 280, 504, 560], "label": "cot"}]', shown(2), 2)
    (box,) = found.boxes
    assert (box.label, box.xyxy) == ("cot", (0, 540, 960, 1080))
    (point,) = ground("(252, 140)", shown(2), 2).points
    assert point.xy == (480, 270)


@pytest.mark.parametrize(
    ("fps", "start", "end"),
    [
        (2, 11, 12),
        (1, 11, 12),
        (4, 11, 12),
        # A step of one position is half a second to the model; a pair lasts longer, or shorter.
        (3, 10 + 4 / 3, 10 + 8 / 3),
        (8, 10.5, 11),
    ],
)
def test_spans_are_in_source_seconds(fps: float, start: float, end: float) -> None:
    (span,) = ground("from 1 to 2 s", shown(fps), 2).spans
    assert (span.start_s, span.end_s) == pytest.approx((start, end))


def test_nothing_is_pointed_at_where_nothing_was_shown() -> None:
    found = ground("(252, 140) from 1 to 2 s", None, 2)
    assert (found.boxes, found.points, found.spans) == ((), (), ())
