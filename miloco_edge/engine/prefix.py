"""The KV of system prompts over restarts: files that are checked before llama.cpp sees them.

A file is named by what its KV depends on and holds a digest of all of it, since llama.cpp takes a
state's word for its own sizes (llama-context.cpp, state_seq_set_data).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miloco_edge.llama import Context, system_info

log = logging.getLogger("miloco_edge.engine")

MOST_FILES = 8
"""Of all models; the one that was used longest ago goes first."""
_MAGIC = b"miloco-edge prefix 1\n"
_DIGEST = 32
_FORSAKEN_S = 3600.0
"""Nobody writes for so long."""


class Prefixes:
    """System prompts of one model under one set of settings, kept in a folder."""

    def __init__(
        self, folder: Path, text: Path, settings: object, systems: Collection[str]
    ) -> None:
        """`settings` is whatever else of the engine the KV depends on, as repr tells it.

        `systems` are the prompts that are kept: what a client says is nobody's to write down, and
        one that holds the time of day would be hundreds of megabytes for each question.
        """
        self._folder, self.systems = folder, systems
        status = text.stat()
        depends = (
            text.name, status.st_size, status.st_mtime_ns, repr(settings),
            version("llama-cpp-python"), system_info(),
        )  # fmt: skip
        self._key = json.dumps(depends).encode()

    def restore(self, context: Context, tokens: NDArray[np.int32]) -> int | None:
        """A sequence with the KV of `tokens` (n,), or None where there is none that fits."""
        path = self._path(tokens)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s: %s; the system prompt is computed anew", path, error)
            return None
        digest, state = data[len(_MAGIC) :][:_DIGEST], data[len(_MAGIC) + _DIGEST :]
        if not data.startswith(_MAGIC) or digest != self._digest(tokens, state):
            log.warning("%s: expected the KV of this system prompt, got something else", path)
            with contextlib.suppress(OSError):  # what cannot be deleted is refused again
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # a folder that is only read is never cleared either
            path.touch()
        return context.restore(state, len(tokens))

    def keep(self, context: Context, sequence: int, tokens: NDArray[np.int32]) -> None:
        """Write the KV of a sequence that holds `tokens` and nothing else, whole or not at all."""
        state = context.state(sequence)
        path = self._path(tokens)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(_MAGIC + self._digest(tokens, state) + state)
            part.replace(path)
            files = sorted(self._folder.glob("*.kv"), key=lambda file: file.stat().st_mtime)
            for old in [*files[:-MOST_FILES], *self._forsaken()]:
                old.unlink(missing_ok=True)
        except OSError as error:  # a full or read-only disk costs the next start half a second
            log.warning("%s: %s; the system prompt is not kept", path, error)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _forsaken(self) -> list[Path]:
        """What processes left half written that were killed meanwhile."""
        parts = self._folder.glob("*.part")
        return [part for part in parts if time.time() - part.stat().st_mtime > _FORSAKEN_S]

    def _path(self, tokens: NDArray[np.int32]) -> Path:
        name = hashlib.blake2b(self._key + tokens.tobytes(), digest_size=12).hexdigest()
        return self._folder / f"{name}.kv"

    def _digest(self, tokens: NDArray[np.int32], state: bytes) -> bytes:
        whole = hashlib.blake2b(self._key, digest_size=_DIGEST)
        whole.update(tokens.tobytes())
        whole.update(state)
        return whole.digest()
