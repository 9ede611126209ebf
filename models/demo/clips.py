"""The clips that come with the demo model: scenes of the test seeds, as a camera records them.

python -m models.demo.clips
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2

from models.demo.scenes import plan, source_frames
from models.demo.thoughts import sentence

FOLDER = Path(__file__).parent / "clips"


@dataclass(frozen=True)
class BundledClip:
    """A clip and what the demo asks about it."""

    seed: int
    questions: tuple[str, ...]
    rules: tuple[str, ...]


CLIPS: dict[str, BundledClip] = {}
"""By name."""


def truth(seed: int) -> str:
    """What happens in a clip, and when, in words."""
    planned = plan(seed)
    times = ", ".join(f"{event.start_s:.1f} to {event.end_s:.1f} s" for event in planned.events)
    said = sentence(planned, "en").rstrip(".")
    return f"{said}, {times}" if times else said


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
    for name, clip in CLIPS.items():
        write_clip(FOLDER / f"{name}.mp4", clip.seed)


if __name__ == "__main__":
    main()
