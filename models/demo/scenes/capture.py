"""From a drawing to what a camera would send: light, shake, noise, compression.

All arithmetic is on whole numbers, so the same seed gives the same bytes everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.demo.scenes.canvas import Point
from models.demo.scenes.seeds import Dice

MARGIN = 8
"""Pixels around the frame that shake may bring into view."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """How a clip was taken."""

    exposure: float
    gamma: float
    warmth: float
    """Above 0 more red, below 0 more blue."""
    night: bool
    """Infrared: shades of grey."""
    lamp: Point
    """Where it is brightest, as shares of width and height."""
    falloff: float
    """How much darker the far corners are, 0 to 1."""
    flicker: float
    noise: int
    """Largest change of a pixel by noise."""
    shake: float
    """Pixels."""
    coarse: int
    """0 leaves the picture whole; 1 to 3 compress it more and more."""

    @classmethod
    def roll(cls, dice: Dice) -> Camera:
        """Any camera."""
        night = dice.chance(0.08)
        return cls(
            dice.uniform(0.72, 1.12), dice.uniform(0.85, 1.25), dice.uniform(-0.12, 0.12), night,
            (dice.uniform(0, 1), dice.uniform(-0.2, 0.6)), dice.uniform(0.0, 0.5),
            dice.uniform(0, 0.05) if dice.chance(0.4) else 0.0,
            dice.weighted({0: 1, 4: 3, 8: 2, 16: 1}) + (6 if night else 0),
            dice.weighted({0.0: 2, 1.0: 2, 2.5: 1}), dice.weighted({0: 2, 1: 2, 2: 2, 3: 1}),
        )  # fmt: skip

    def drift(self, seed: int, tick: int) -> tuple[int, int]:
        """How far the picture is off at a frame of the source, in whole pixels."""
        dice = Dice(seed, "shake", tick)
        slow = tick * 0.4 + seed % 7
        dx = self.shake * (math.sin(slow) + dice.uniform(-0.8, 0.8))
        dy = self.shake * (math.cos(slow * 0.8) * 0.7 + dice.uniform(-0.6, 0.6))
        return round(dx), round(dy)


class Sensor:
    """A camera's arithmetic for one frame size."""

    def __init__(self, camera: Camera, seed: int, size: tuple[int, int]) -> None:
        self.camera, self.seed = camera, seed
        width, height = size
        x = (np.arange(width) * 256 // width - round(camera.lamp[0] * 256)) ** 2
        y = (np.arange(height) * 256 // height - round(camera.lamp[1] * 256)) ** 2
        reach = (x[None, :] + y[:, None]) * round(camera.falloff * 256) // (2 * 65536)
        self._light = np.clip(256 - reach, 64, 256).astype(np.uint16)[..., None]
        raw = np.random.PCG64(seed).random_raw((height * width * 3 + 4096) // 8)
        raw = raw.astype("<u8").view(np.int8)
        self._noise = raw.astype(np.int16) * camera.noise >> 7
        self._tables: dict[int, Pixels] = {}

    def take(self, drawing: Pixels, tick: int) -> Pixels:
        """The picture of a drawing (h, w, 3) at a frame of the source."""
        camera = self.camera
        dice = Dice(self.seed, "sensor", tick)
        level = round(100 * dice.uniform(-camera.flicker, camera.flicker))
        if camera.night:
            wide = drawing.astype(np.uint16)
            grey = (wide[..., 0] * 3 + wide[..., 1] * 6 + wide[..., 2]) // 10
            drawing = np.repeat(grey.astype(np.uint8)[..., None], 3, -1)
        if level not in self._tables:
            self._tables[level] = self._curve(level / 100)
        table = self._tables[level]
        seen = np.stack([table[c][drawing[..., c]] for c in range(3)], -1)
        if camera.falloff:
            seen = (seen * self._light >> 8).astype(np.uint8)
        if camera.noise:
            start = dice.below(4096)
            grain = self._noise[start : start + seen.size]
            noisy = seen.astype(np.int16) + grain.reshape(seen.shape)
            seen = np.clip(noisy, 0, 255).astype(np.uint8)
        return compress(seen, camera.coarse) if camera.coarse else seen

    def _curve(self, flicker: float) -> Pixels:
        """Brightness of each of three channels after exposure, gamma and warmth: (3, 256)."""
        camera = self.camera
        warmth = 0.0 if camera.night else camera.warmth
        gains = [camera.exposure * (1 + flicker) * (1 + tint) for tint in (warmth, 0.0, -warmth)]
        return np.array(
            [
                [min(255, round(255 * (v / 255) ** camera.gamma * gain)) for v in range(256)]
                for gain in gains
            ],
            np.uint8,
        )


def compress(picture: Pixels, coarse: int) -> Pixels:
    """Blocks and smeared colour, as a video codec leaves them.

    Luma goes through a 4x4 Hadamard transform and coarse steps; colour is halved in resolution.
    picture: (h, w, 3) with sides a multiple of 4.
    """
    h, w, _ = picture.shape
    r, g, b = (picture[..., c].astype(np.int16) for c in range(3))
    luma = (r + 2 * g + b) >> 2
    blocks = _hadamard(luma.reshape(h // 4, 4, w // 4, 4))
    steps = _STEPS + coarse
    blocks = ((blocks + (1 << (steps - 1))) >> steps) << steps
    luma = ((_hadamard(blocks) + 8) >> 4).reshape(h, w)
    red, blue = _halved(r - g), _halved(b - g)
    green = luma - ((red + blue) >> 2)
    restored = np.stack([green + red, green, green + blue], -1)
    result: Pixels = np.clip(restored, 0, 255).astype(np.uint8)
    return result


_STEPS = np.array([[1, 4, 3, 4], [4, 5, 4, 5], [3, 4, 4, 5], [4, 5, 5, 5]], np.int16)[
    None, :, None, :
]
"""Base-two logarithm of each coefficient's step at coarseness 0."""


def _hadamard(x: NDArray[np.int16]) -> NDArray[np.int16]:
    """Transform along axes 1 and 3 of (rows, 4, columns, 4); twice gives 16 times the input."""
    for axis in (1, 3):
        a, b, c, d = (np.take(x, i, axis) for i in range(4))
        s, t, u, v = a + b, a - b, c + d, c - d
        x = np.stack([s + u, t + v, s - u, t - v], axis)
    return x


def _halved(channel: NDArray[np.int16]) -> NDArray[np.int16]:
    """Each 2x2 square's mean in all of it."""
    mean = (channel[::2, ::2] + channel[1::2, ::2] + channel[::2, 1::2] + channel[1::2, 1::2]) >> 2
    return mean.repeat(2, 0).repeat(2, 1)
