from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from miloco_edge.errors import MediaError
from miloco_edge.types import Box, Point, Preprocessor
from miloco_edge.video import Clip, fit
from tests.video.conftest import number_of, numbered

QWEN = Preprocessor()


def blank(width: int, height: int, frames: int = 1, fps: float = 2.0) -> Clip:
    return Clip.from_frames([np.zeros((height, width, 3), np.uint8)] * frames, fps)


def test_a_video_is_pairs_of_one_size() -> None:
    fitted = fit(blank(1920, 1080, 6), QWEN)
    assert fitted.size == (1008, 560)
    assert (fitted.temporal_patches, fitted.visual_tokens) == (3, 2160)
    assert [len(patch) for patch in fitted.patches] == [2, 2, 2]
    assert fitted.times_s == (0, 0.5, 1, 1.5, 2, 2.5)
    assert fitted.source_sizes == ((1920, 1080),) * 6
    assert (fitted.fps, fitted.layout, fitted.degraded) == (2.0, "video", None)


def test_the_last_of_an_odd_number_is_repeated() -> None:
    fitted = fit(Clip.from_frames([numbered(i) for i in range(5)], 2), QWEN)
    assert len(fitted.frames) == 6
    assert np.array_equal(fitted.frames[4], fitted.frames[5])
    assert fitted.times_s == (0, 0.5, 1, 1.5, 2, 2)
    assert (fitted.fps, fitted.degraded) == (2.0, None)


def test_one_frame_is_a_still_by_the_limits_of_pictures() -> None:
    fitted = fit(blank(1920, 1080), QWEN)
    assert (len(fitted.frames), fitted.size) == (1, (1932, 1092))
    assert (fitted.temporal_patches, fitted.visual_tokens) == (1, 69 * 39)


def test_pictures_are_fitted_one_by_one() -> None:
    pictures = [np.zeros((h, w, 3), np.uint8) for w, h in ((56, 56), (1920, 1080), (300, 200))]
    fitted = fit(Clip.from_images(pictures), QWEN)
    assert fitted.sizes == ((56, 56), (1932, 1092), (308, 196))
    assert fitted.visual_tokens == 4 + 69 * 39 + 77
    assert fitted.temporal_patches == 3
    assert fitted.fps > 0

    poorer = fit(Clip.from_images(pictures), QWEN, 300)
    assert poorer.sizes[0] == (56, 56)
    assert poorer.sizes[2] == (308, 196)
    assert 200 < poorer.visual_tokens <= 300


def test_a_video_as_separate_pictures() -> None:
    fitted = fit(replace(blank(640, 480, 5), layout="images"), QWEN)
    assert len(fitted.frames) == fitted.temporal_patches == 5


def test_a_budget_is_kept_by_resolution_first() -> None:
    fitted = fit(blank(1920, 1080, 20), QWEN, 1024)
    assert len(fitted.frames) == 20
    assert 900 < fitted.visual_tokens <= 1024
    assert fitted.degraded is not None
    assert fitted.degraded.reason == "visual_tokens"
    assert fitted.degraded.asked == {
        "frames": 20, "width": 1008, "height": 560, "visual_tokens": 7200,
    }  # fmt: skip
    assert fitted.degraded.used == {
        "frames": 20,
        "width": fitted.size[0],
        "height": fitted.size[1],
        "visual_tokens": fitted.visual_tokens,
    }


def test_then_by_fewer_frames_with_both_ends() -> None:
    clip = Clip.from_frames([numbered(i) for i in range(100)], 2)
    fitted = fit(clip, QWEN, 640)
    assert len(fitted.frames) == 20
    kept = [number_of(np.asarray(clip.frames[round(t * 2)].pixels)) for t in fitted.times_s]
    assert kept == np.linspace(0, 99, 20).round().astype(int).tolist()
    assert fitted.fps == pytest.approx(0.4)
    assert 560 < fitted.visual_tokens <= 640
    assert fitted.degraded is not None
    assert (fitted.degraded.asked["frames"], fitted.degraded.used["frames"]) == (100, 20)


def test_then_by_resolution_below_the_floor() -> None:
    fitted = fit(blank(640, 480, 8), QWEN, 20)
    assert (len(fitted.frames), fitted.visual_tokens) == (2, 20)
    with pytest.raises(MediaError, match="at least 4 visual tokens") as caught:
        fit(blank(640, 480, 8), QWEN, 3)
    assert caught.value.hint
    with pytest.raises(MediaError, match="at least 4"):
        fit(blank(640, 480), QWEN, 3)


def test_at_most_so_many_frames() -> None:
    fitted = fit(blank(64, 64, 31), QWEN, max_frames=9)
    assert (len(fitted.frames), fitted.times_s[0], fitted.times_s[-1]) == (8, 0, 15)
    assert fitted.degraded is not None
    assert fitted.degraded.reason == "max_frames"
    assert len(fit(blank(64, 64, 31), QWEN, max_frames=1).frames) == 1


def test_at_most_so_many_tokens_a_patch() -> None:
    fitted = fit(blank(4000, 4000), QWEN, max_tokens_per_patch=4096)
    assert (fitted.size, fitted.degraded) == ((1792, 1792), None)


def test_limits_are_the_preprocessors() -> None:
    small = Preprocessor(image_pixels=(784, 9 * 784), video_pixels=(784, 9 * 784))
    assert fit(blank(640, 480, 4), small).visual_tokens <= 18
    assert fit(blank(640, 480), small).visual_tokens <= 9
    tight = fit(blank(84, 84, 16), small, 45)  # patches of nine tokens are not made smaller
    assert (tight.visual_tokens, tight.temporal_patches) == (45, 5)


def test_a_shape_that_cannot_be_shown() -> None:
    with pytest.raises(MediaError, match="aspect ratio of at most 200"):
        fit(blank(2100, 10), QWEN)


def test_the_whole_picture_is_shown() -> None:
    frame = np.zeros((1080, 1920, 3), np.uint8)
    frame[:, :8] = frame[:, -8:] = 255
    frame[:8] = frame[-8:] = 255
    for budget in (None, 64):
        (pixels,) = fit(Clip.from_frames([frame], 2), QWEN, budget).frames
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert edge.min() > 100
        assert pixels[2:-2, 2:-2].mean() < 40


def test_every_budget_is_kept() -> None:
    draw = random.Random(2)
    for _ in range(80):
        frames, budget = draw.randint(1, 24), draw.randint(4, 1500)
        clip = blank(draw.randint(20, 400), draw.randint(20, 400), frames)
        fitted = fit(clip, QWEN, budget)
        assert fitted.visual_tokens <= budget
        assert all(side % 28 == 0 and side > 0 for size in fitted.sizes for side in size)
        assert len(fitted.frames) == 1 or len(fitted.frames) % 2 == 0
        assert (fitted.times_s[0], fitted.times_s[-1]) == (clip.times_s[0], clip.times_s[-1])
        smaller = fitted.visual_tokens < fit(clip, QWEN).visual_tokens
        assert (fitted.degraded is not None) == smaller


def test_what_is_seen_in_a_frame_is_found_in_its_source() -> None:
    fitted = fit(blank(1920, 1080, 2), QWEN)  # 1008x560
    assert fitted.to_source(Point("x", (504, 280))) == Point("x", (960, 540))
    box = fitted.to_source(Box("all", (0, 0, 1008, 560)))
    assert box == Box("all", (0, 0, 1920, 1080))
    assert fitted.to_source(Box("out", (-5, -5, 2000, 9))).xyxy[:3] == (0, 0, 1920)  # type: ignore[union-attr]
