"""Clips that brought the engine down: remembered, kept on disk, not shown to it again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from pathlib import Path

import numpy as np

from miloco_edge.video import Clip

log = logging.getLogger(__name__)

STRIKES = 2
"""A clip that was there once may have been a bystander; one that was there twice is kept out."""
_REMEMBERED = 256
_KEPT = 20


class Quarantine:
    """Who was there when the engine went down, by their pixels.

    With a folder, a clip that is kept out is written to it, `DIGEST.npz` (frames, times_s) and
    `DIGEST.json` (cause, source), and is still kept out after a restart; the newest 20 are kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._strikes: OrderedDict[str, int] = OrderedDict()
        self._causes: dict[str, str] = {}
        if folder is not None and folder.is_dir():
            for file in folder.glob("*.json"):
                try:
                    self._causes[file.stem] = str(json.loads(file.read_bytes())["cause"])
                except (OSError, ValueError, TypeError, KeyError) as error:
                    # As a full disk leaves it; the clip may come in twice again.
                    log.warning("%s: expected a clip's cause, got %r", file, error)

    def cause(self, clip: Clip) -> str | None:
        """Why the clip is kept out, if it is."""
        return self._causes.get(_digest(clip)) if self._causes else None

    def strike(self, clip: Clip, cause: str) -> bool:
        """Note that the engine went down over the clip: whether it is kept out from now on."""
        digest = _digest(clip)
        strikes = self._strikes.pop(digest, 0) + 1
        self._strikes[digest] = strikes
        if len(self._strikes) > _REMEMBERED:
            self._strikes.popitem(last=False)
        if strikes < STRIKES:
            return False
        self._causes[digest] = cause
        log.warning("%s is kept out: it brought the engine down %d times", clip.source, strikes)
        if self.folder is not None:
            try:
                self._write(self.folder, digest, clip, cause)
            except OSError as error:
                log.error("the clip could not be written to %s: %s", self.folder, error)
        return True

    def _write(self, folder: Path, digest: str, clip: Clip, cause: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / f"{digest}.npz",
            *(frame.pixels for frame in clip.frames),
            times_s=np.array(clip.times_s),
        )
        facts = {"cause": cause, "source": clip.source, "fps": clip.fps, "layout": clip.layout}
        (folder / f"{digest}.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        oldest_first = sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)
        for file in oldest_first[:-_KEPT]:
            file.unlink()
            file.with_suffix(".json").unlink(missing_ok=True)


def _digest(clip: Clip) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for frame in clip.frames:
        digest.update(repr(frame.pixels.shape).encode())
        digest.update(frame.pixels.tobytes())
    return digest.hexdigest()
