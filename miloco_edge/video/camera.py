"""A camera by its address: its source, and a window of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from miloco_edge.errors import MediaError, NotFoundError
from miloco_edge.types import RGB
from miloco_edge.video.address import Address
from miloco_edge.video.played import Inbox, Played
from miloco_edge.video.source import Source
from miloco_edge.video.streams import Stream
from miloco_edge.video.web import Web

log = logging.getLogger(__name__)


def source_at(address: Address, *, timeout_s: float = 10.0, loop: bool = False) -> Source:
    """What gives the frames of an address. Nothing is opened yet.

    `timeout_s` is the longest wait for an answer and for the next frame; `loop` plays a file again
    and again.
    """
    match address.kind:
        case "http":
            return Web(address, timeout_s)
        case "file":
            return Played(Path(address.secret()), loop)
        case "folder":
            return Inbox(Path(address.secret()))
        case "rtsp" | "usb":
            return Stream(address, timeout_s)


def watch(
    source: str | int, *, seconds: float, fps: float, timeout_s: float
) -> Iterator[tuple[float, RGB]]:
    """The frames of the next `seconds` at `fps`, each with its time since the first, in seconds.

    A frame's time is the stream's own, or that of its arrival where the stream's runs behind it
    (motion JPEG states no times). An even number is taken, two at least; where the stream ends or
    stalls for `timeout_s`, those that came are given, with a warning.

    Raises `NotFoundError` where no camera answers, `MediaError` where it shows nothing.
    """
    address = Address.parse(source)
    wanted = max(2, round(seconds * fps / 2) * 2)
    given = 0
    first: tuple[float, float] | None = None
    stop = threading.Event()
    limit = threading.Timer(seconds + timeout_s, stop.set)
    limit.daemon = True
    limit.start()
    try:
        for shot in source_at(address, timeout_s=timeout_s).shots(stop, fps=fps):
            stream_s = shot.arrival_s if shot.stream_s is None else shot.stream_s
            first = first or (shot.arrival_s, stream_s)
            yield max(shot.arrival_s - first[0], stream_s - first[1]), shot.pixels
            given += 1
            if given == wanted:
                return
    except (MediaError, NotFoundError):
        if not given:
            raise
    finally:
        limit.cancel()
    if not given:
        raise MediaError(
            str(address),
            f"{address}: expected {wanted} frames, got none that decodes",
            hint="where the camera's stream cannot be decoded, choose H.264 or MJPEG in its "
            "settings; a folder has to receive pictures meanwhile",
        )
    log.warning("%s: expected %d frames, got %d: the stream ended", address, wanted, given)
