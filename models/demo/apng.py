"""Writes frames as an animated PNG: lossless, each frame kept, each shown equally long.

Pillow's own writer joins frames that are alike, which changes their number. The format is the PNG
specification's (third edition, 2025), chunks acTL, fcTL and fdAT.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_apng(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """Write (n, h, w, 3) uint8 RGB frames, to be shown at `fps` and repeated for ever."""
    count, height, width, _ = frames.shape
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        _chunk(b"acTL", struct.pack(">II", count, 0)),
    ]
    number = 0
    for i, frame in enumerate(frames):
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, fps, 0, 0)
        chunks.append(_chunk(b"fcTL", control))
        number += 1
        data = _packed(frame)
        if i == 0:
            chunks.append(_chunk(b"IDAT", data))
        else:
            chunks.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b""))


def _packed(frame: NDArray[np.uint8]) -> bytes:
    """Rows, each as its difference from the one above (filter 2), compressed."""
    height = len(frame)
    rows = frame.reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    return zlib.compress(filtered.tobytes(), 6)


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
