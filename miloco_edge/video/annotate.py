"""Pictures for a person: what the model was shown, and what it pointed at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from miloco_edge.types import RGB, Box, Point
from miloco_edge.video.clip import Clip

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080")
CELL = 320
"""Longest side of a frame on the contact sheet, in pixels."""
GAP = 4


def contact_sheet(frames: Sequence[RGB], times: Sequence[float]) -> Image.Image:
    """The frames in a grid, in order, each with its time in seconds.

    frames: each (h, w, 3) uint8 RGB; sizes may differ.
    """
    if not frames:
        raise ValueError("contact_sheet: expected at least one frame, got none")
    cells = []
    for pixels, time_s in zip(frames, times, strict=True):
        cell = Image.fromarray(pixels)
        cell.thumbnail((CELL, CELL))
        _label(ImageDraw.Draw(cell), (0, 0), f"{time_s:.2f} s", "black")
        cells.append(cell)
    columns = math.ceil(math.sqrt(len(cells)))
    width = max(cell.width for cell in cells) + GAP
    height = max(cell.height for cell in cells) + GAP
    rows = math.ceil(len(cells) / columns)
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    for i, cell in enumerate(cells):
        sheet.paste(cell, (GAP + i % columns * width, GAP + i // columns * height))
    return sheet


def draw(image: RGB, boxes: Sequence[Box] = (), points: Sequence[Point] = ()) -> Image.Image:
    """A copy of `image` with boxes and points, in its own pixels, and their labels.

    image: (h, w, 3) uint8 RGB.
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    line = max(2, min(picture.size) // 200)
    for i, box in enumerate(boxes):
        colour = COLOURS[i % len(COLOURS)]
        x0, x1 = sorted((box.xyxy[0], box.xyxy[2]))
        y0, y1 = sorted((box.xyxy[1], box.xyxy[3]))
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=line)
        _label(pen, (x0, y0), box.label, colour)
    for i, point in enumerate(points, len(boxes)):
        colour = COLOURS[i % len(COLOURS)]
        pen.circle(point.xy, 3 * line, fill=colour, outline="white")
        _label(pen, (point.xy[0] + 4 * line, point.xy[1]), point.label, colour)
    return picture


def draw_sheet(clip: Clip, boxes: Sequence[Box] = (), points: Sequence[Point] = ()) -> Image.Image:
    """The clip's frames with boxes and points in source pixels; a still at its full size."""
    drawn = [draw(frame.pixels, boxes, points) for frame in clip.frames]
    if len(drawn) == 1:
        return drawn[0]
    return contact_sheet([np.asarray(picture) for picture in drawn], clip.times_s)


def _label(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str) -> None:
    if not text:
        return
    font = ImageFont.load_default(14)
    pen.rectangle(pen.textbbox(at, text, font), fill=colour)
    pen.text(at, text, fill="white", font=font)
