"""What calibration has seen so far: sums of text rows and of visual rows, kept apart.

They are kept beside the imatrix so that a run can be resumed, runs can be merged, and the weight
between the two can be changed without running again.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quantize.errors import ImatrixError, NotFoundError
from quantize.imatrix import Entry, Imatrix, check_sums, write_whole

MODALITIES = ("text", "visual")
_FORMAT = 1


@dataclass(frozen=True)
class Model:
    """Which files the sums are of."""

    name: str
    file_type: str
    text_sha256: str
    mmproj_sha256: str

    def is_same(self, other: Model) -> bool:
        """Whether the bytes are the same, whatever they are called."""
        return (self.text_sha256, self.mmproj_sha256) == (other.text_sha256, other.mmproj_sha256)


@dataclass(frozen=True)
class Columns:
    """What went into one weight."""

    sums: NDArray[np.float64]
    """(columns,): squares summed over rows."""
    rows: int


@dataclass(frozen=True)
class Moments:
    """Sums by modality and weight, and the clips they are from."""

    model: Model
    clips: Mapping[str, str]
    """A clip's key and how it was shown: clips that are shown differently are not the same."""
    sums: Mapping[tuple[str, str], Columns]
    """By ("text" or "visual", weight)."""

    def plus(self, other: Moments) -> Moments:
        """Both together. The result does not depend on the order, see `of_clip`."""
        sums = dict(self.sums)
        for key, columns in other.sums.items():
            held = sums.get(key)
            sums[key] = (
                columns
                if held is None
                else Columns(held.sums + columns.sums, held.rows + columns.rows)
            )
        return Moments(self.model, {**self.clips, **other.clips}, sums)


def of_clip(model: Model, key: str, shown: str, sums: Mapping[tuple[str, str], Columns]) -> Moments:
    """The moments of one clip.

    Its sums are rounded to float32, so that float64 adds up clips without rounding (up to 2^29
    between the largest total and a clip's last bit): resumed, merged and whole runs are the same.
    """
    rounded = {
        name: Columns(columns.sums.astype(np.float32).astype(np.float64), columns.rows)
        for name, columns in sums.items()
    }
    return Moments(model, {key: shown}, rounded)


def mix(moments: Moments, visual_weight: float, *, dataset: str, outputs: bool = False) -> Imatrix:
    """The importances: a weighted mean of the text rows' mean and the visual rows' mean.

    Adding the rows up instead would let visual tokens, nine of ten in a prompt, decide alone,
    though the answer depends on them far less: treating both alike costs up to 4.4 % of accuracy
    at 3 bits (MBQ, CVPR 2025, arXiv 2412.19509). A weight that only one modality reaches (the ViT;
    the last block's FFN, which computes text rows alone) takes its mean. `outputs` keeps the
    weights that make logits, which llama-imatrix leaves out by default.
    """
    entries = {}
    for name in sorted({name for _, name in moments.sums}):
        if name in ("output.weight", "token_embd.weight") and not outputs:
            continue
        text, visual = (moments.sums.get((modality, name)) for modality in MODALITIES)
        means = [
            (weight, columns.sums / columns.rows)
            for weight, columns in ((1 - visual_weight, text), (visual_weight, visual))
            if columns is not None
        ]
        if text is None or visual is None:
            means = [(1.0, mean) for _, mean in means]
        rows = sum(columns.rows for columns in (text, visual) if columns is not None)
        mixed = sum(weight * mean for weight, mean in means) * rows
        entries[name] = Entry(np.asarray(mixed, np.float32), rows)
    most = max(entry.count for entry in entries.values())
    return Imatrix(
        entries,
        (f"{dataset}: {len(moments.clips)} clips, visual weight {visual_weight:g}",),
        chunk_count=len(moments.clips),
        chunk_size=max(1, most // len(moments.clips)),
    )


def write_moments(path: Path, moments: Moments) -> None:
    """Write a NumPy archive, whole or not at all."""
    about = {
        "format": _FORMAT,
        "model": asdict(moments.model),
        "clips": dict(moments.clips),
        "rows": {f"{m}/{name}": columns.rows for (m, name), columns in moments.sums.items()},
    }
    arrays: dict[str, Any] = {
        f"{m}/{name}": columns.sums for (m, name), columns in moments.sums.items()
    }

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about, ensure_ascii=False)), **arrays)

    write_whole(path, write)


def read_moments(path: Path) -> Moments:
    """Read what `write_moments` wrote.

    Raises NotFoundError, or ImatrixError where it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except FileNotFoundError as error:
        raise NotFoundError(
            path, "expected the state of a calibration, found nothing", hint="check the path"
        ) from error
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError) as error:
        raise ImatrixError(
            path,
            f"expected the state of a calibration, got {type(error).__name__}: {error}",
            hint="remove it, or give --restart, to begin again",
        ) from error


def _read(path: Path, file: BinaryIO) -> Moments:
    with np.load(file, allow_pickle=False) as archive:
        about: dict[str, Any] = json.loads(archive["about"].item())
        if about["format"] != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}, got {about['format']}")
        sums = {}
        for name, rows in about["rows"].items():
            modality, _, weight = name.partition("/")
            values = archive[name]
            if modality not in MODALITIES or values.ndim != 1 or values.dtype != np.float64:
                raise ValueError(f"expected sums of columns, got {name} {values.dtype}")
            if not isinstance(rows, int) or rows < 1:
                raise ValueError(f"expected 1 row or more of {name}, got {rows}")
            check_sums(path, name, values)
            sums[modality, weight] = Columns(values, rows)
        clips = {str(key): str(shown) for key, shown in about["clips"].items()}
        return Moments(Model(**about["model"]), clips, sums)
