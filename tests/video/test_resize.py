from __future__ import annotations

import math
import random

import numpy as np
import pytest

from miloco_edge.types import Preprocessor
from miloco_edge.video.resize import (
    FACTOR,
    frame_limits,
    resize,
    shrink,
    smart_resize,
    tokens,
)

IMAGE, VIDEO = Preprocessor().image_pixels, Preprocessor().video_pixels


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((1920, 1080), (1008, 560)),
        ((1280, 720), (1008, 560)),
        ((2560, 1440), (1008, 560)),
        ((2688, 1520), (1008, 560)),
        ((640, 480), (644, 476)),
        ((640, 360), (644, 364)),
        ((448, 448), (448, 448)),
        ((320, 240), (392, 280)),
        ((1080, 1920), (560, 1008)),
        ((20, 4000), (28, 4004)),
    ],
)
def test_sizes_of_a_video_frame(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert smart_resize(size, *VIDEO) == fitted


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((1920, 1080), (1932, 1092)),
        ((42, 70), (56, 56)),  # 1.5 and 2.5 tokens: half to even
        ((98, 126), (112, 112)),  # 3.5 and 4.5
        ((10, 10), (56, 56)),
        ((4096, 4096), (3584, 3584)),
        ((30_000, 151), (29_988, 140)),
    ],
)
def test_sizes_of_a_picture(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert smart_resize(size, *IMAGE) == fitted


def test_a_side_is_never_less_than_a_token() -> None:
    assert smart_resize((20_000, 100), 4 * 784, 100 * 784) == (3948, 28)


def test_every_size_is_legal() -> None:
    draw = random.Random(0)
    for _ in range(5000):
        size = draw.randint(1, 5000), draw.randint(1, 5000)
        if max(size) > 200 * min(size):
            with pytest.raises(ValueError, match="aspect ratio"):
                smart_resize(size, *VIDEO)
            continue
        for least, most in (IMAGE, VIDEO):
            width, height = smart_resize(size, least, most)
            assert width % FACTOR == height % FACTOR == 0
            assert min(width, height) >= FACTOR
            assert width * height >= least
            if min(width, height) > FACTOR:
                assert width * height <= most


def test_shrink_keeps_the_budget_and_the_shape() -> None:
    assert shrink((720, 358), 72) == (336, 168)
    assert shrink((1920, 1080), 64) == (280, 168)
    assert shrink((4000, 20), 64) == (64 * 28, 28)
    draw = random.Random(1)
    for _ in range(5000):
        budget = draw.randint(1, 500)
        height = draw.randint(20, 2000)
        size = round(height * math.exp(draw.uniform(-1.2, 1.2))), height
        fitted = shrink(size, budget)
        assert fitted[0] % FACTOR == fitted[1] % FACTOR == 0
        assert 1 <= tokens(fitted) <= budget
        if budget >= 64:
            assert tokens(fitted) >= 0.8 * budget
            distortion = fitted[0] / fitted[1] * size[1] / size[0]
            assert 0.75 < distortion < 1.34


def test_frames_of_a_long_video_share_its_pixels() -> None:
    assert frame_limits(VIDEO, 20) == VIDEO
    assert frame_limits(VIDEO, 300) == (VIDEO[0], 602_112)
    assert frame_limits(VIDEO, 768) == (VIDEO[0], 235_200)
    assert frame_limits(VIDEO, 10_000) == (VIDEO[0], 105_369)


def test_resize_shows_the_whole_picture_smoothly() -> None:
    ramp = np.repeat(np.linspace(0, 255, 560).astype(np.uint8)[None, :, None], 280, 0).repeat(3, 2)
    small = resize(ramp, (140, 56))
    assert small.shape == (56, 140, 3)
    assert np.abs(small[0, :, 0].astype(int) - np.linspace(0, 255, 140)).max() < 3
    noise = np.random.default_rng(0).integers(0, 256, (280, 560, 3), np.uint8)
    assert resize(noise, (56, 28)).std() < 20  # antialiased
    assert np.array_equal(resize(noise, (560, 280)), noise)
