"""Fit a clip to what the model may look at: legal sizes, within a budget of visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from miloco_edge.errors import MediaError
from miloco_edge.types import RGB, Box, Degraded, Layout, Point, Preprocessor
from miloco_edge.video.clip import Clip, Frame
from miloco_edge.video.resize import (
    Size,
    frame_limits,
    resize,
    shrink,
    smart_resize,
    tokens,
)

Pointed = TypeVar("Pointed", Box, Point)

FLOOR_TOKENS = 64
"""A patch is made no smaller than this (224x224) as long as frames can be left out instead."""
LEAST_TOKENS = 4
"""Nothing can be recognised below 56x56: transformers' own least for a picture."""


@dataclass(frozen=True, eq=False)
class FittedClip:
    """Frames as the ViT takes them.

    A video has an even number of frames of one size, each pair a temporal patch; a still has one;
    separate pictures each have their own size. Sizes are multiples of 28.
    """

    frames: tuple[RGB, ...]
    """Each (h, w, 3) uint8, RGB."""
    times_s: tuple[float, ...]
    """When each frame is shown, in seconds of the source."""
    fps: float
    layout: Layout
    source_sizes: tuple[Size, ...]
    """(width, height) of each frame before fitting."""
    degraded: Degraded | None = None
    """What had to give way to the budget."""

    @property
    def sizes(self) -> tuple[Size, ...]:
        """(width, height) of each frame."""
        return tuple((frame.shape[1], frame.shape[0]) for frame in self.frames)

    @property
    def size(self) -> Size:
        """(width, height) of the first frame, which is every frame's but for separate pictures."""
        return self.sizes[0]

    @property
    def patches(self) -> tuple[tuple[RGB, ...], ...]:
        """What the ViT encodes at once: a video's frame pairs, else each picture alone."""
        step = 2 if self.layout == "video" and len(self.frames) > 1 else 1
        return tuple(self.frames[i : i + step] for i in range(0, len(self.frames), step))

    @property
    def temporal_patches(self) -> int:
        """How many times the ViT runs."""
        return len(self.patches)

    @property
    def visual_tokens(self) -> int:
        """Visual tokens of the whole clip."""
        return sum(tokens((patch[0].shape[1], patch[0].shape[0])) for patch in self.patches)

    def to_source(self, item: Pointed, frame: int = 0) -> Pointed:
        """`item`, given in the fitted pixels of a frame, in the pixels of its source."""
        (width, height), (source_w, source_h) = self.sizes[frame], self.source_sizes[frame]

        def x(value: float) -> float:
            return min(max(value, 0), width) * source_w / width

        def y(value: float) -> float:
            return min(max(value, 0), height) * source_h / height

        if isinstance(item, Point):
            return replace(item, xy=(x(item.xy[0]), y(item.xy[1])))
        x0, y0, x1, y1 = item.xyxy
        return replace(item, xyxy=(x(x0), y(y0), x(x1), y(y1)))


def fit(
    clip: Clip,
    preprocessor: Preprocessor,
    visual_tokens: int | None = None,
    max_frames: int | None = None,
    max_tokens_per_patch: int | None = None,
) -> FittedClip:
    """`clip` at legal sizes, with at most so many visual tokens and frames in all.

    Without a budget, sizes are transformers': the image limits for a still and for separate
    pictures, the video limits for a video, all of the picture, stretched by less than one token.
    `max_tokens_per_patch` is what the ViT takes at once, and lowers those limits.

    A budget is kept by lower resolution, down to 64 tokens a patch, then by fewer frames, evenly
    spread with both end points, then by resolution again; it may go below the preprocessor's
    least pixels. What gave way is in `degraded`.

    Raises `MediaError` where the shape cannot be shown (one side over 200 times the other) or the
    budget cannot be kept.
    """
    asked = clip.frames
    frames, sizes, asked_sizes = _chosen(
        clip, preprocessor, visual_tokens, max_frames, max_tokens_per_patch
    )
    degraded = None
    if len(frames) < len(asked) or sizes != asked_sizes:
        reason = "max_frames" if visual_tokens is None else "visual_tokens"
        degraded = Degraded(
            reason, _measure(clip.layout, asked_sizes), _measure(clip.layout, sizes)
        )
    pixels = [resize(frame.pixels, size) for frame, size in zip(frames, sizes, strict=True)]
    if len(frames) % _pair(clip.layout, frames):  # the last frame is repeated, as transformers does
        frames, pixels = (*frames, frames[-1]), [*pixels, pixels[-1]]
    return FittedClip(
        tuple(pixels),
        tuple(frame.time_s for frame in frames),
        clip.fps * len(sizes) / len(asked),
        clip.layout,
        tuple(frame.size for frame in frames),
        degraded,
    )


def sizes_of(
    clip: Clip,
    preprocessor: Preprocessor,
    visual_tokens: int | None = None,
    max_frames: int | None = None,
    max_tokens_per_patch: int | None = None,
) -> tuple[list[Size], tuple[int, ...]]:
    """What `fit` would make of a clip, without touching its pixels.

    The (width, height) of each frame that it would show, and the visual tokens of each patch.
    Raises as `fit`.
    """
    _, sizes, _ = _chosen(clip, preprocessor, visual_tokens, max_frames, max_tokens_per_patch)
    return sizes, tuple(tokens(size) for size in sizes[:: _pair(clip.layout, sizes)])


def _chosen(
    clip: Clip,
    preprocessor: Preprocessor,
    visual_tokens: int | None,
    max_frames: int | None,
    max_tokens_per_patch: int | None,
) -> tuple[tuple[Frame, ...], list[Size], list[Size]]:
    """The frames that are shown, their sizes, and the sizes of all frames without a budget."""
    frames = clip.frames
    asked_sizes = sizes = _sizes(clip, frames, preprocessor, max_tokens_per_patch)
    if max_frames is not None and len(frames) > max_frames:
        frames = _thinned(clip.layout, frames, max_frames)
        sizes = _sizes(clip, frames, preprocessor, max_tokens_per_patch)
    if visual_tokens is not None and _cost(clip.layout, sizes) > visual_tokens:
        patches = _affordable_patches(clip.layout, sizes, visual_tokens)
        if patches < len(sizes[:: _pair(clip.layout, sizes)]):
            frames = _thinned(clip.layout, frames, patches * _pair(clip.layout, frames))
            sizes = _sizes(clip, frames, preprocessor, max_tokens_per_patch)
        sizes = _within(clip, frames, sizes, visual_tokens)
    return frames, sizes, asked_sizes


def _pair(layout: Layout, frames: Sequence[object]) -> int:
    """Frames in a patch: two of a video; a still and a separate picture stand alone."""
    return 2 if layout == "video" and len(frames) > 1 else 1


def _cost(layout: Layout, sizes: Sequence[Size]) -> int:
    """Visual tokens of frames of these sizes."""
    return sum(tokens(size) for size in sizes[:: _pair(layout, sizes)])


def _sizes(
    clip: Clip, frames: Sequence[Frame], preprocessor: Preprocessor, most_tokens: int | None
) -> list[Size]:
    """The legal size of each frame where no budget binds."""
    limits = preprocessor.image_pixels
    if _pair(clip.layout, frames) == 2:
        limits = frame_limits(preprocessor.video_pixels, len(frames) + len(frames) % 2)
    try:
        sizes = [smart_resize(frame.size, *limits) for frame in frames]
    except ValueError as error:
        raise MediaError(
            clip.source, f"{clip.source}: {error}", hint="crop the picture to the part that matters"
        ) from error
    if most_tokens is None:
        return sizes
    return [
        size if tokens(size) <= most_tokens else shrink(frame.size, most_tokens)
        for frame, size in zip(frames, sizes, strict=True)
    ]


def _affordable_patches(layout: Layout, sizes: Sequence[Size], budget: int) -> int:
    """How many patches the budget covers when each is as small as it may be."""
    costs = [tokens(size) for size in sizes[:: _pair(layout, sizes)]]
    return max(1, budget // min(FLOOR_TOKENS, max(costs)))


def _within(clip: Clip, frames: Sequence[Frame], sizes: Sequence[Size], budget: int) -> list[Size]:
    """Sizes that keep the budget: what a small picture does not need goes to the large ones."""
    pair = _pair(clip.layout, frames)
    costs = [tokens(size) for size in sizes[::pair]]
    shares = [0] * len(costs)
    left = budget
    for rank, i in enumerate(sorted(range(len(costs)), key=costs.__getitem__)):
        shares[i] = min(costs[i], left // (len(costs) - rank))
        left -= shares[i]
        if shares[i] < min(LEAST_TOKENS, costs[i]):
            raise MediaError(
                clip.source,
                f"{clip.source}: expected a budget of at least {min(LEAST_TOKENS, costs[i])} "
                f"visual tokens a patch, got {budget} for {len(costs)}",
                hint="raise --visual-tokens; 64 a picture is the least that shows much",
            )
    return [
        size if tokens(size) <= shares[i // pair] else shrink(frames[i].size, shares[i // pair])
        for i, size in enumerate(sizes)
    ]


def _thinned(layout: Layout, frames: tuple[Frame, ...], most: int) -> tuple[Frame, ...]:
    """At most `most` frames, evenly spread with both end points; an even number of a video's."""
    count = most - most % 2 if layout == "video" and most > 1 else most
    return tuple(frames[round(i * (len(frames) - 1) / max(1, count - 1))] for i in range(count))


def _measure(layout: Layout, sizes: Sequence[Size]) -> dict[str, int | float]:
    width, height = sizes[0]
    cost = _cost(layout, sizes)
    return {"frames": len(sizes), "width": width, "height": height, "visual_tokens": cost}
