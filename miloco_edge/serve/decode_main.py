"""The process that decodes what strangers send: little memory, no secrets, ended when in doubt.

python -m miloco_edge.serve.decode_main DESCRIPTOR MEMORY_BYTES
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import resource
import socket
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from miloco_edge.engine.child_wire import Channel
from miloco_edge.errors import MediaError
from miloco_edge.types import RGB
from miloco_edge.video import Clip
from miloco_edge.video.decode import timeline
from miloco_edge.video.picture import decode_picture

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""What cameras and hubs send. Each further format is a further decoder to be attacked."""
_FPS = 2.0


class TooMuch(Exception):
    """Media beyond a limit; the word names it."""


def clip_of(message: dict[str, Any]) -> Clip:
    """The one clip that the media of a request make.

    A video, or frames, alone are a video. Pictures are pictures, unless the request calls them
    frames of a video; next to pictures, a video's frames are pictures too.
    """
    media, limits = message["media"], message["limits"]
    left = _Left(limits["frames"], limits["clip_bytes"], limits["picture_pixels"])
    if len(media) == 1 and media[0]["kind"] != "picture":
        return _video(media[0], left)
    pictures: list[RGB] = []
    for medium in media:
        if medium["kind"] == "picture":
            pictures.append(left.picture(medium["data"][0]))
        else:
            pictures += [frame.pixels for frame in _video(medium, left).frames]
    if message["layout"] == "video" and len({picture.shape for picture in pictures}) == 1:
        return Clip.from_frames(pictures, message["fps"] or _FPS)
    return Clip.from_images(pictures)


class _Left:
    """What a request may still decode."""

    def __init__(self, frames: int, clip_bytes: int, picture_pixels: int) -> None:
        self.frames, self.bytes, self._pixels = frames, clip_bytes, picture_pixels

    def picture(self, data: str) -> RGB:
        """Decode a picture once its head says that it is within bounds."""
        raw = _raw(data)
        try:
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                width, height = image.size
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooMuch("picture_pixels") from error
        except Exception as error:  # Pillow lets more than OSError out of damaged files
            raise MediaError("picture", "not a picture of a known format") from error
        if width * height > self._pixels:
            raise TooMuch("picture_pixels")
        self.take(1, width * height * 3)
        return decode_picture(raw, "picture")

    def take(self, frames: int, size: int) -> None:
        """Count frames; TooMuch where they are too many."""
        self.frames -= frames
        self.bytes -= size
        if self.frames < 0:
            raise TooMuch("frames")
        if self.bytes < 0:
            raise TooMuch("clip_bytes")


def _video(medium: dict[str, Any], left: _Left) -> Clip:
    fps = medium["fps"] or _FPS
    if medium["kind"] == "frames":
        if len(medium["data"]) > left.frames:
            raise TooMuch("frames")
        pictures = [left.picture(data) for data in medium["data"]]
        if len({picture.shape for picture in pictures}) == 1:
            return Clip.from_frames(pictures, fps)
        return Clip.from_images(pictures)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video")
        path.write_bytes(_raw(medium["data"][0]))
        width, height = timeline(path).size
        affordable = left.bytes // max(1, width * height * 3)
        if affordable < 2 or left.frames < 2:
            raise TooMuch("clip_bytes")
        clip = Clip.from_file(path, fps=fps, max_frames=min(left.frames, affordable))
    left.take(len(clip.frames), sum(frame.pixels.nbytes for frame in clip.frames))
    return Clip(clip.frames, clip.fps, "video", clip.layout)


def _raw(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=not any(c in data for c in "\r\n"))
    except (binascii.Error, ValueError) as error:
        raise MediaError("data", "not base64") from error


def serve(channel: Channel) -> None:
    """Decode one request after another until the parent hangs up (EOFError)."""
    channel.send({"ready": True})
    while True:
        message, _ = channel.receive()
        try:
            clip = clip_of(message)
        except TooMuch as error:
            channel.send({"refused": "too_much", "limit": str(error)})
        except (MediaError, ValueError):
            channel.send({"refused": "unreadable"})
        except MemoryError:
            channel.send({"refused": "too_much", "limit": "decode_memory_bytes"})
        else:
            channel.send({"done": True}, clip)


def main(arguments: Sequence[str]) -> None:
    """Give up what is not needed, then serve."""
    memory = int(arguments[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        serve(Channel(socket.socket(fileno=int(arguments[0]))))
    except EOFError:
        pass  # the parent hung up
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
