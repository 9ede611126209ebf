"""Draw the clip that tests look at: a ball rolls through a room, five seconds at 12 fps.

python -m models.demo.draw_clip models/demo/ball.mp4
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, FPS, SECONDS = 448, 252, 12, 5


def draw(path: Path) -> None:
    """Write the clip as H.264-free MP4 (MPEG-4 part 2), which every OpenCV wheel can read."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for i in range(FPS * SECONDS):
        room = np.full((HEIGHT, WIDTH, 3), (205, 220, 228), np.uint8)
        cv2.rectangle(room, (0, 180), (WIDTH, HEIGHT), (110, 140, 165), -1)
        cv2.rectangle(room, (300, 40), (400, 120), (235, 200, 150), -1)
        x = 40 + i * (WIDTH - 80) // (FPS * SECONDS)
        cv2.circle(room, (x, 190), 26, (40, 60, 200), -1)
        cv2.line(room, (x, 190), (x + int(24 * np.cos(i / 3)), 190 + int(24 * np.sin(i / 3))), 0, 3)
        writer.write(room)
    writer.release()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
