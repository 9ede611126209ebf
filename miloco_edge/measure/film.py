"""A film to look at where none is given: no picture of it is like another."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from miloco_edge import Clip
from miloco_edge.errors import MediaError

CODEC = "mp4v"  # MPEG-4 part 2: what OpenCV's wheels can write without a licence
_MARK = 56  # pixels; as much as two visual tokens side by side


def write_film(
    path: Path, *, size: tuple[int, int] = (1280, 720), seconds: float = 4.0, fps: float = 10.0
) -> Path:
    """Write a film of a square that moves over a pattern; the path.

    Raises MediaError where OpenCV cannot write one.
    """
    width, height = size
    fourcc = cv2.VideoWriter.fourcc(*CODEC)
    film = cv2.VideoWriter(str(path), fourcc, fps, size)
    if not film.isOpened():
        raise MediaError(
            path, f"expected OpenCV to write {path.name}, it did not", hint="give --clip FILE"
        )
    y, x = np.mgrid[0:height, 0:width]
    for i in range(round(seconds * fps)):
        frame = np.stack([(x + 7 * i) % 256, (y * 2 + 3 * i) % 256, (x + y) // 8 % 256], axis=-1)
        left = i * 12 % (width - height // 4)
        frame[height // 2 : height // 2 + height // 4, left : left + height // 4] = 250
        film.write(frame.astype(np.uint8))
    film.release()
    return path


def mark(clip: Clip, number: int) -> None:
    """Make the clip's pictures ones that were never seen: `number` as noise in a corner.

    In place; a few microseconds. Otherwise the engine would know them from the time before.
    """
    random = np.random.default_rng(number)
    for frame in clip.frames:
        corner = frame.pixels[:_MARK, : 2 * _MARK]
        corner[:] = random.integers(0, 256, corner.shape, dtype=np.uint8)
