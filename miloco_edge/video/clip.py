"""A clip: frames at source size with their times, from a file, a folder, pictures or a camera."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np

from miloco_edge.errors import MediaError, MediaNotFoundError
from miloco_edge.types import RGB, Layout
from miloco_edge.video import address, camera, decode, picture, sample

log = logging.getLogger(__name__)

CLIP_BYTES = 2 << 30
"""Most memory of a file's or folder's frames unless the caller says how many: 345 of 1080p."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture and when it was shown."""

    pixels: RGB
    """(h, w, 3) uint8, RGB, at source size."""
    time_s: float
    """Seconds from the start of its source."""

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
            raise ValueError(f"Frame.pixels: expected (h, w, 3) uint8, got {shape} {dtype}")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, eq=False)
class Clip:
    """What the model is to look at. A clip of one frame is a still picture.

    Clip.from_file("clip.mp4", fps=2, start=10, end=20)
    Clip.from_images(["before.jpg", "after.jpg"])
    """

    frames: tuple[Frame, ...]
    fps: float
    """Frames per second of the source that the frames stand for (transformers' sample_fps)."""
    source: str
    """Where it came from, as a person would name it; passwords are masked."""
    layout: Layout = "video"

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("Clip.frames: expected at least one frame, got none")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"Clip.fps: expected more than 0, got {self.fps}")
        sizes = {frame.size for frame in self.frames}
        if self.layout == "video" and len(sizes) > 1:
            raise ValueError(f"Clip.frames: expected one size in a video, got {sorted(sizes)}")

    @property
    def times_s(self) -> tuple[float, ...]:
        """When each frame is shown, seconds."""
        return tuple(frame.time_s for frame in self.frames)

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        fps: float = 2.0,
        max_frames: int = 256,
        frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
        min_frames: int = 4,
    ) -> Clip:
        """Frames of a video file, or the one frame of a picture file.

        Between `start` and `end` seconds (both included; the whole file by default), `fps` frames
        per second are taken, at least `min_frames` and at most `max_frames`, or exactly `frames`:
        an even number, evenly spread, with both end points (`sample.spread`). An animated GIF,
        WebP, PNG or AVIF is a video.

        Raises `MediaNotFoundError`, or `MediaError` where nothing can be shown.
        """
        path = _existing_file(Path(path))
        count = _Count(fps, min_frames, max_frames, frames, start, end)
        if not picture.is_picture(path):
            return cls(*_of_video(path, count), str(path))
        times = picture.animation_times(path)
        if times is None:
            return cls((Frame(picture.read_picture(path), 0.0),), fps, str(path))
        indices, sample_fps = count.choose(path, times, 0.0, picture.size_of(path))
        shown = zip(times[indices], picture.read_animation(path, indices), strict=True)
        return cls(_of_one_size(path, shown), sample_fps, str(path))

    @classmethod
    def from_folder(
        cls,
        path: Path | str,
        fps: float = 2.0,
        *,
        max_frames: int = 256,
        frames: int | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Clip:
        """The pictures of a folder as a video at `fps`, in the order of their names.

        Numbers in names count as numbers, so frame2 comes before frame10. All are taken, or
        `max_frames` or `frames` of them evenly spread, or what `CLIP_BYTES` hold.

        Raises `MediaNotFoundError`, or `MediaError` where there is no picture in it.
        """
        path = Path(path)
        if not path.is_dir():
            raise MediaNotFoundError(path, hint="name a folder of pictures")
        files = sorted(
            (
                file
                for file in path.iterdir()
                if file.is_file() and file.suffix.lower() in picture.SUFFIXES
            ),
            key=_natural,
        )
        if not files:
            raise MediaError(
                path,
                f"{path.name}: expected a folder of pictures, got none in it",
                hint=f"pictures end in one of {' '.join(sorted(picture.SUFFIXES))}",
            )
        times = np.arange(len(files)) / fps
        within = sample.window(times, start, end)
        kept = np.arange(len(files))[within]
        if not len(kept):
            raise _nothing_between(path, start, end, times)
        size = picture.size_of(files[kept[0]])
        if frames is not None or len(kept) > min(max_frames, _affordable(size)):
            count = _Count(fps, 1, max_frames, frames, start, end)
            indices, sample_fps = count.choose(path, times, fps, size)
        else:
            indices, sample_fps = kept.tolist(), fps
        shown = ((times[index], picture.read_picture(files[index])) for index in indices)
        return cls(_of_one_size(path, shown), sample_fps, str(path))

    @classmethod
    def from_frames(
        cls, arrays: Iterable[RGB], fps: float, times: Sequence[float] | None = None
    ) -> Clip:
        """Frames that the caller has, as a video: each (h, w, 3) uint8 RGB, all of one size.

        `times` are seconds of the caller's own clock; by default frame i is shown at i / fps. The
        arrays are kept, not copied: nothing may write to them any more.
        """
        pixels = list(arrays)
        shown = [index / fps for index in range(len(pixels))] if times is None else times
        frames = (Frame(p, float(t)) for p, t in zip(pixels, shown, strict=True))
        return cls(tuple(frames), fps, "frames")

    @classmethod
    def from_images(cls, images: Iterable[Path | str | RGB]) -> Clip:
        """Separate pictures, from files or as (h, w, 3) uint8 RGB; their sizes may differ.

        Raises `MediaNotFoundError`, or `MediaError` where one is not a picture.
        """
        frames, names = [], []
        for image in images:
            if isinstance(image, np.ndarray):
                frames.append(Frame(image, 0.0))
                names.append("array")
            else:
                path = _existing_file(Path(image))
                frames.append(Frame(picture.read_picture(path), 0.0))
                names.append(str(path))
        return cls(tuple(frames), 1.0, ", ".join(names), "images")

    @classmethod
    def from_camera(
        cls, source: str | int, seconds: float = 3.0, fps: float = 2.0, *, timeout_s: float = 10.0
    ) -> Clip:
        """The next `seconds` of a camera at `fps`.

        `source` is an RTSP, RTMP or HTTP URL, the index of a USB camera, or a device's path.
        Raises `NotFoundError` where none answers within `timeout_s`, and `MediaError` where one
        answers and shows nothing. A URL's credentials appear in no message.
        """
        shown = camera.watch(source, seconds=seconds, fps=fps, timeout_s=timeout_s)
        name = address.masked(source)
        return cls(_of_one_size(name, shown), fps, name)


@dataclass(frozen=True)
class _Count:
    """How many frames the caller wants, and between which moments."""

    fps: float
    min_frames: int
    max_frames: int
    frames: int | None
    start: float | None
    end: float | None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps: expected more than 0, got {self.fps}")
        for name in ("min_frames", "max_frames", "frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")

    def choose(
        self, path: Path, times: sample.FloatArray, stated_rate: float, size: tuple[int, int]
    ) -> tuple[list[int], float]:
        """Indices of the frames to take, and the rate at which they were taken."""
        within = sample.window(times, self.start, self.end)
        inside = times[within]
        if not len(inside):
            raise _nothing_between(path, self.start, self.end, times)
        rate = sample.frame_rate(inside, stated_rate) if len(inside) > 1 else self.fps
        count = sample.frame_count(
            len(inside),
            rate,
            fps=self.fps,
            min_frames=self.min_frames,
            max_frames=min(self.max_frames, _affordable(size)),
            frames=self.frames,
        )
        if count == 1:
            return [within.start], self.fps
        indices = within.start + sample.spread(inside, count)
        return indices.tolist(), count / len(inside) * rate


def _affordable(size: tuple[int, int]) -> int:
    """How many frames of a (width, height) there is memory for."""
    return max(2, CLIP_BYTES // max(1, size[0] * size[1] * 3))


def _of_video(path: Path, count: _Count) -> tuple[tuple[Frame, ...], float]:
    """The frames that are wanted of a video file, and the rate at which they were taken."""
    line = decode.timeline(path)
    indices, fps = count.choose(path, line.times, line.stated_rate, line.size)
    frames = _of_one_size(path, decode.read_frames(path, line, indices))
    if len(frames) < len(indices):
        line = decode.decodable(path, line)
        indices, fps = count.choose(path, line.times, line.stated_rate, line.size)
        frames = _of_one_size(path, decode.read_frames(path, line, indices))
    return frames, fps


def _existing_file(path: Path) -> Path:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaNotFoundError(path, hint="check the path") from error
    except (OSError, ValueError) as error:
        raise MediaError(
            path,
            f"{path}: expected a file, got: {error}",
            hint="check the path and who may read it",
        ) from error
    if not S_ISREG(status.st_mode):
        kind = "a folder" if path.is_dir() else "something else"
        raise MediaError(
            path,
            f"{path}: expected a file, got {kind}",
            hint="a folder of pictures is read with Clip.from_folder (--video FOLDER)",
        )
    if status.st_size == 0:
        raise MediaError(
            path,
            f"{path.name}: expected a picture or a video, got an empty file",
            hint="copy or record it again",
        )
    return path


def _nothing_between(
    path: Path, start: float | None, end: float | None, times: sample.FloatArray
) -> MediaError:
    return MediaError(
        path,
        f"{path.name}: expected frames from {start or 0:g} s to "
        f"{'the end' if end is None else f'{end:g} s'}, got none",
        hint=f"it shows frames from {times[0]:g} s to {times[-1]:g} s",
    )


def _of_one_size(source: Path | str, shown: Iterable[tuple[float, RGB]]) -> tuple[Frame, ...]:
    """Frames of a video, whose size may not change midway."""
    frames: list[Frame] = []
    for time_s, pixels in shown:
        frame = Frame(pixels, float(time_s))
        if frames and frame.size != frames[0].size:
            (w, h), (w0, h0) = frame.size, frames[0].size
            raise MediaError(
                source,
                f"{source}: expected {w0}x{h0} throughout, got {w}x{h} at {time_s:.2f} s",
                hint="pictures of different sizes are asked about with --image, not --video",
            )
        frames.append(frame)
    return tuple(frames)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Names in the order of a person: digits as numbers."""
    return [
        (int(part), "") if part.isdigit() else (0, part.lower())
        for part in re.split(r"(\d+)", path.name)
    ]
