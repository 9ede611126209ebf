"""The demo model's clips as clients send them."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from miloco_edge import Clip
from models.demo.clips import FOLDER


def video(name: str) -> str:
    """A clip's file as a data URI."""
    data = base64.b64encode((FOLDER / f"{name}.mp4").read_bytes()).decode()
    return f"data:video/mp4;base64,{data}"


def pictures(name: str) -> list[str]:
    """Its sampled frames as JPEG in base64."""
    found = []
    for frame in Clip.from_file(FOLDER / f"{name}.mp4").frames:
        held = io.BytesIO()
        Image.fromarray(frame.pixels).save(held, "JPEG", quality=92)
        found.append(base64.b64encode(held.getvalue()).decode())
    return found


def video_part(name: str) -> dict[str, Any]:
    """OpenAI's part of a message."""
    return {"type": "video_url", "video_url": {"url": video(name)}}


def picture_parts(name: str) -> list[dict[str, Any]]:
    """One part for each frame."""
    return [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
        for data in pictures(name)
    ]
