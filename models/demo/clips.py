"""The clips that come with the demo model: drawn scenes of the test seeds, as cameras record them.

python -m models.demo.clips
"""

from __future__ import annotations

from pathlib import Path

import cv2

from models.demo.scenes import plan, source_frames

FOLDER = Path(__file__).parent / "clips"
CLIPS: dict[str, int] = {}
"""A clip's name and its seed."""


def write_clip(path: Path, seed: int) -> None:
    """Draw a seed's scene as MPEG-4 part 2, which every OpenCV wheel reads and writes."""
    planned = plan(seed)
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), code, planned.source_fps, planned.size)
    for frame in source_frames(planned):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, seed in CLIPS.items():
        write_clip(FOLDER / f"{name}.mp4", seed)


if __name__ == "__main__":
    main()
