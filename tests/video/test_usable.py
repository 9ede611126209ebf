from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miloco_edge.types import RGB, Preprocessor
from miloco_edge.video import Clip, fit, unusable
from miloco_edge.video.usable import is_black, is_covered, is_frozen

BALL = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"


def room(brightness: float = 1.0, seed: int = 0) -> RGB:
    """A wall, a floor, a window and a person, with a sensor's noise."""
    picture = np.full((252, 448, 3), 110.0)
    picture[170:] = (90, 70, 50)
    picture[30:100, 60:140] = (210, 220, 235)
    picture[80:200, 250:300] = (150, 40, 40)
    picture *= brightness
    picture += np.random.default_rng(seed).normal(0, 3, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def noise(level: float, spread: float) -> RGB:
    values = np.random.default_rng(1).normal(level, spread, (252, 448, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def hand() -> RGB:
    """A hand on the lens: dull red, lit through from one side, grainy."""
    y, x = np.mgrid[0:252, 0:448]
    light = 40 + 60 * x / 448 + 20 * y / 252
    picture = np.stack([light, 0.4 * light, 0.3 * light], -1)
    picture += np.random.default_rng(2).normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("brightness", [1.0, 0.5, 0.25, 2.0])
def test_a_room_is_usable_by_day_and_by_lamplight(brightness: float) -> None:
    assert unusable([room(brightness)]) is None


def test_black_is_night_without_infrared_and_no_signal() -> None:
    assert is_black(np.zeros((252, 448, 3), np.uint8))
    assert is_black(noise(14, 6)), "the grain of a sensor at its limit"
    assert not is_black(room(0.25))
    lamp = np.zeros((252, 448, 3), np.uint8)
    lamp[100:140, 200:260] = 200
    assert not is_black(lamp), "something is lit"


def test_covered_has_no_edge_anywhere() -> None:
    assert is_covered(hand())
    assert is_covered(np.full((252, 448, 3), 128, np.uint8))
    assert is_covered(noise(90, 8))
    assert not is_covered(room())


def test_frozen_is_the_same_to_the_last_bit() -> None:
    assert is_frozen([room(), room(), room()])
    assert not is_frozen([room(), room(), room(seed=1)]), "a sensor always has noise"
    assert not is_frozen([room()]), "one picture cannot tell"
    assert unusable([room(), room()]) is None
    assert unusable([room(), room()], live=True) == "frozen"


def test_one_frame_that_shows_something_is_enough() -> None:
    black = np.zeros((252, 448, 3), np.uint8)
    assert unusable([black, hand(), room()]) is None
    assert unusable([black, hand()]) == "black"
    assert unusable([hand(), black]) == "covered"


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 300, 3), (28, 28, 3)])
def test_small_pictures(shape: tuple[int, int, int]) -> None:
    assert unusable([np.zeros(shape, np.uint8)]) == "black"
    checks = np.indices(shape[:2]).sum(0) // 14 % 2 * 255
    picture = np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8)
    assert unusable([picture]) is None or shape[0] < 28


def test_a_real_clip_at_every_size() -> None:
    clip = Clip.from_file(BALL)
    for tokens in (32, 256, 4096):
        assert unusable(fit(clip, Preprocessor(), tokens).frames) is None
