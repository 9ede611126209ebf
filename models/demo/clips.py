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


CLIPS: dict[str, BundledClip] = {
    "reading": BundledClip(
        1_100_016_207,
        (
            "What is the person doing?",
            "When is someone reading? Give start and end in seconds.",
            "Where is the person who is reading? Answer with bbox_2d.",
        ),
        ("Someone is reading", "Someone is watching TV", "有人在看书"),
    ),
    "workout": BundledClip(
        1_100_036_075,
        (
            "画面里的人在做什么？",
            "When is someone working out? Give start and end in seconds.",
            "Where is the person who is working out? Answer with bbox_2d.",
        ),
        (
            "Someone is exercising",
            "Someone is playing on the phone",
            "There is a person in the room",
        ),
    ),
    "thumbs-up": BundledClip(
        1_100_029_439,
        (
            "Name the activity or gesture.",
            "When is someone giving a thumbs up? Give start and end in seconds.",
            "Where is the hand that is giving a thumbs up? Answer with bbox_2d.",
        ),
        ("Someone is giving a thumbs up", "Someone is making the OK sign", "有人在做V字手势"),
    ),
}
"""By name. Each is asked what happens, when, and where."""


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
