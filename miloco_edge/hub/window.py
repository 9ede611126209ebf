"""A window: what one camera saw in a few seconds, cut by the times at which it was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miloco_edge.video import Clip, Frame


@dataclass(frozen=True, eq=False)
class Window:
    """Frames of one camera between two moments. Times are seconds of the steady clock."""

    camera: str
    start_s: float
    end_s: float
    frames: tuple[Frame, ...]
    """One size, ascending; `Frame.time_s` is the moment of capture."""
    fps: float
    """Frames per second that were wanted."""

    def clip(self) -> Clip:
        """The frames as a clip that begins at 0 s."""
        pixels = [frame.pixels for frame in self.frames]
        times = [frame.time_s - self.start_s for frame in self.frames]
        clip = Clip.from_frames(pixels, self.fps, times)
        return Clip(clip.frames, clip.fps, self.camera)


def pair_end(newest_s: float, anchor_s: float, fps: float) -> float:
    """The end of a frame pair next to the newest frame, by a clock that has one at `anchor_s`.

    Windows that end there share their pairs, and the engine knows those that it has seen. Where
    none is within half a frame's time, what is newest counts.
    """
    pair_s = 2 / fps
    end_s = anchor_s + round((newest_s - anchor_s) / pair_s) * pair_s
    return end_s if abs(newest_s - end_s) <= pair_s / 4 else newest_s


def cut(
    camera: str,
    frames: Sequence[Frame],
    end_s: float,
    *,
    seconds: float,
    fps: float,
    slack_s: float = 0.0,
) -> Window | None:
    """The window that ends at `end_s`: for each moment, 1 / fps apart, the frame nearest to it.

    `frames` ascend by their time. A moment with no frame within 1 / fps of it is left out, and so
    are frames of another size than the newest (a camera that changed its resolution), and one
    frame where they are odd in number, for they go to the model in pairs. A frame may be `slack_s`
    late for the last moment. None where nothing is left.
    """
    gap_s = 1 / fps
    start_s = end_s - seconds
    inside = [frame for frame in frames if start_s < frame.time_s <= end_s + slack_s]
    if not inside:
        return None
    inside = [frame for frame in inside if frame.size == inside[-1].size]
    chosen: dict[int, Frame] = {}
    for i in range(max(1, round(seconds * fps))):
        moment = end_s - i * gap_s
        nearest = min(range(len(inside)), key=lambda k: abs(inside[k].time_s - moment))
        if abs(inside[nearest].time_s - moment) < gap_s:
            chosen[nearest] = inside[nearest]
    ascending = [chosen[k] for k in sorted(chosen)]
    if len(ascending) % 2 and len(ascending) > 1:
        ascending = ascending[1:]
    if not ascending:
        return None
    return Window(camera, start_s, min(end_s, ascending[-1].time_s), tuple(ascending), fps)
