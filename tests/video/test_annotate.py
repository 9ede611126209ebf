from __future__ import annotations

import numpy as np
import pytest

from miloco_edge.types import Box, Point
from miloco_edge.video import Clip, contact_sheet, draw, draw_sheet
from tests.video.conftest import numbered


def test_a_sheet_shows_every_frame_with_its_time() -> None:
    frames = [np.full((90, 160, 3), 40 * i, np.uint8) for i in range(1, 6)]
    sheet = np.asarray(contact_sheet(frames, [0, 0.5, 1, 1.5, 2]))
    assert sheet.shape == (2 * 94 + 4, 3 * 164 + 4, 3)
    for i in range(5):
        cell = sheet[4 + i // 3 * 94 :, 4 + i % 3 * 164 :][:90, :160]
        assert (cell[60:] == 40 * (i + 1)).all()
        assert (cell[:20, :40] == 255).any()  # the time
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], [])


def test_large_frames_are_made_smaller() -> None:
    sheet = contact_sheet([np.zeros((1080, 1920, 3), np.uint8)] * 4, [0, 1, 2, 3])
    assert max(sheet.size) < 700


def test_boxes_and_points_are_drawn_where_they_are() -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    drawn = np.asarray(
        draw(
            frame, [Box("cat", (250, 150, 100, 50))], [Point("nose", (30, 180)), Point("", (9, 9))]
        )
    )
    assert drawn[150, 200].any()
    assert drawn[100, 250].any()
    assert not drawn[120, 180].any()
    assert drawn[180, 30].any()
    assert not frame.any()


def test_a_still_is_drawn_at_its_full_size() -> None:
    one = Clip.from_frames([np.zeros((500, 700, 3), np.uint8)], 2)
    assert draw_sheet(one, [Box("x", (1, 1, 9, 9))]).size == (700, 500)
    two = Clip.from_frames([numbered(0), numbered(1)], 2)
    assert draw_sheet(two).size == (2 * 132 + 4, 72)
