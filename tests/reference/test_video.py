"""Our sizes, pixels and frame indices against transformers and torch.

`Qwen2VLVideoProcessor` itself needs torchvision, which the reference environment does without. Its
two parts are compared one by one: `smart_resize` is transformers' own, and its resize is what
torchvision calls for a uint8 picture, torch's antialiased bicubic `interpolate`. Stills are
compared with transformers' Pillow processor as a whole.
"""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import numpy as np
import pytest

from miloco_edge.types import RGB, Preprocessor
from miloco_edge.video import Clip, fit
from miloco_edge.video.resize import frame_limits, smart_resize
from miloco_edge.video.sample import spread

pytestmark = pytest.mark.reference

QWEN = Preprocessor()


def photograph(width: int, height: int, seed: int = 0) -> RGB:
    """Noise at every scale, as a picture has: edges, gradients and texture."""
    draw = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for scale in (1, 4, 16, 64):
        coarse = draw.uniform(0, 1, (height // scale + 1, width // scale + 1, 3))
        total += coarse.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    return (total / total.max() * 255).astype(np.uint8)


def test_sizes_are_transformers_for_pictures_and_video() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
        smart_resize as reference,
    )

    draw = random.Random(0)
    sizes = [(draw.randint(1, 6000), draw.randint(1, 6000)) for _ in range(20_000)]
    sizes += [(14 * i, 14 * j) for i in range(1, 60) for j in range(1, 60)]  # ties
    for size in sizes:
        for frames in (None, 2, 300, 768):
            limits = QWEN.image_pixels
            if frames is not None:
                limits = frame_limits(QWEN.video_pixels, frames)
            try:
                height, width = reference(size[1], size[0], 28, *limits)
            except ValueError:
                with pytest.raises(ValueError, match="aspect ratio"):
                    smart_resize(size, *limits)
                continue
            assert smart_resize(size, *limits) == (width, height), (size, limits)


def test_stills_are_transformers_pixel_by_pixel() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
        Qwen2VLImageProcessorPil,
    )

    least, most = QWEN.image_pixels
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": least, "longest_edge": most}, do_normalize=False, do_rescale=False
    )
    for width, height in ((640, 480), (333, 777), (1500, 200), (30, 40)):
        picture = photograph(width, height)
        out = processor(images=[picture], return_tensors="np")
        (fitted,) = fit(Clip.from_images([picture]), QWEN).frames
        _, rows, columns = out["image_grid_thw"][0]
        assert fitted.shape == (rows * 14, columns * 14, 3)
        patches = out["pixel_values"].reshape(rows // 2, columns // 2, 2, 2, 3, 2, 14, 14)
        theirs = patches[:, :, :, :, :, 0].transpose(0, 2, 5, 1, 3, 6, 4).reshape(fitted.shape)
        difference = np.abs(theirs - fitted.astype(np.float64))
        print(f"{width}x{height}: largest difference of a still {difference.max():g} of 255")
        assert difference.max() == 0


def torch_resize(frame: RGB, height: int, width: int) -> RGB:
    """What torchvision's `resize` does to a uint8 picture for BICUBIC with antialias."""
    import torch

    planes = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        planes, size=(height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return np.asarray(resized[0].permute(1, 2, 0).numpy())


def alike(name: str, theirs: RGB, ours: RGB) -> None:
    """Equal to one level, but for a few values in a million.

    Both kernels sum with rounded weights, each in its own way, and a harsh edge may show it twice.
    """
    difference = np.abs(theirs.astype(int) - ours)
    one, two = (difference == 1).sum(), (difference > 1).sum()
    print(f"{name}: of {difference.size} values {one} differ by 1, {two} by 2")
    assert difference.max() <= 2
    assert one < 0.01 * difference.size
    assert two < 1e-5 * difference.size


@pytest.mark.parametrize("budget", [None, 1024, 128])
def test_film_frames_are_torchs_antialiased_bicubic(budget: int | None) -> None:
    folder = os.environ.get("MILOCO_EDGE_SDIST")
    assert folder, "expected MILOCO_EDGE_SDIST to name the unpacked llama-cpp-python sdist"
    clip = Clip.from_file(Path(folder) / "vendor/llama.cpp/tools/mtmd/test-3.mp4")
    fitted = fit(clip, QWEN, budget)
    shown = {frame.time_s: frame.pixels for frame in clip.frames}
    theirs = [torch_resize(shown[t], *fitted.size[::-1]) for t in fitted.times_s]
    alike(f"film at {fitted.size}", np.stack(theirs), np.stack(fitted.frames))


@pytest.mark.parametrize("size", [(1920, 1080), (720, 358), (320, 240), (101, 999)])
def test_noise_is_torchs_antialiased_bicubic(size: tuple[int, int]) -> None:
    frame = photograph(*size, seed=1)
    ours = fit(Clip.from_frames([frame] * 2, 2), QWEN).frames[0]
    alike(f"noise of {size}", torch_resize(frame, *ours.shape[:2]), ours)


def test_indices_are_torchs_linspace() -> None:
    """As qwen_vl_utils takes them: `torch.linspace(0, total - 1, n).round().long()`.

    Exact to a length at which float32 begins to err; there, within its error of a half.
    """
    import torch

    for total in (*range(2, 700), 1000, 1801, 2000):
        for count in range(2, min(total, 768) + 1, 2 if total < 300 else 10):
            theirs = torch.linspace(0, total - 1, count).round().long().tolist()
            assert spread(np.arange(total) / 25, count).tolist() == theirs, (total, count)
    for total in (18_000, 108_000, 1_000_000):
        for count in (4, 64, 256, 768):
            theirs = torch.linspace(0, total - 1, count).round().long().numpy()
            ours = spread(np.arange(total) / 25, count)
            exact = np.arange(count) * (total - 1) / (count - 1)
            for i in np.flatnonzero(ours != theirs):
                assert abs(exact[i] % 1 - 0.5) < math.ulp(1.0) * 2**29 * total * 4
                assert abs(int(ours[i]) - int(theirs[i])) == 1
