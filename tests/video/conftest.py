"""Clips whose every frame says which one it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from miloco_edge.types import RGB

BARS, BAR_W, BAR_H = 8, 16, 64


def numbered(index: int, background: tuple[int, int, int] = (0, 0, 0)) -> RGB:
    """A 128x64 frame with `index` in eight bars, black for 0 and white for 1, lowest bit first."""
    frame = np.empty((BAR_H, BARS * BAR_W, 3), np.uint8)
    frame[:] = background
    for bit in range(BARS):
        if index >> bit & 1:
            frame[:, bit * BAR_W : (bit + 1) * BAR_W] = 255
    return frame


def number_of(pixels: RGB) -> int:
    """The index that `numbered` drew, after any codec."""
    row = pixels[BAR_H // 2, BAR_W // 2 :: BAR_W, 0]
    return sum(1 << bit for bit, value in enumerate(row) if value > 127)


WriteVideo = Callable[..., Path]


@pytest.fixture
def write_video(tmp_path: Path) -> WriteVideo:
    def write(frames: Iterable[RGB] | int, fps: float = 25, name: str = "clip.avi") -> Path:
        shown = map(numbered, range(frames)) if isinstance(frames, int) else frames
        code = cv2.VideoWriter.fourcc(*("mp4v" if name.endswith(".mp4") else "MJPG"))
        writer = None
        for pixels in shown:
            writer = writer or cv2.VideoWriter(
                str(tmp_path / name), cv2.CAP_FFMPEG, code, fps, pixels.shape[1::-1]
            )
            writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        assert writer is not None
        writer.release()
        return tmp_path / name

    return write


@pytest.fixture
def data() -> Path:
    """Files that OpenCV cannot write; data/README.md says how they were made."""
    return Path(__file__).parent / "data"
