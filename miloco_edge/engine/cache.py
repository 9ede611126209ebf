"""Visual tokens of pictures that were seen before."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from miloco_edge.types import RGB, VisualTokens


class EmbeddingCache:
    """The newest visual tokens by the pixels they came from, within a number of bytes.

    A still camera sends the same pair again and again, and overlapping windows share pairs; the
    ViT is half of the cost of a look. 256 tokens of a 7B model take 4 MiB.
    """

    def __init__(self, capacity_bytes: int = 256 * 2**20) -> None:
        self.capacity_bytes = capacity_bytes
        self.hits = 0
        self.held_bytes = 0
        self._entries: OrderedDict[bytes, VisualTokens] = OrderedDict()

    def get(self, key: bytes, encode: Callable[[], VisualTokens]) -> VisualTokens:
        """The visual tokens of a picture or frame pair (`content_key`), encoded if not held."""
        if (held := self._entries.get(key)) is not None:
            self.hits += 1
            self._entries.move_to_end(key)
            return held
        tokens = encode()
        self._entries[key] = tokens
        self.held_bytes += tokens.embeddings.nbytes
        while self.held_bytes > self.capacity_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.held_bytes -= oldest.embeddings.nbytes
        return tokens

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries


def content_key(frames: tuple[RGB, ...]) -> bytes:
    """A digest of pictures by their sizes and pixels."""
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(repr(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame).data)
    return digest.digest()
