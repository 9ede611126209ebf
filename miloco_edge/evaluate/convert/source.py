"""A data set's folder: its annotations, its media wherever they lie in it, what was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from miloco_edge.errors import ManifestError, MilocoEdgeError, NotFoundError

_ROWS = 64
"""Rows of a table that are in memory at once: those of MMMU-Pro hold pictures."""


class Source:
    """The folder of a data set, and the manifest that is to be written."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out = folder, out
        self.skipped: Counter[str] = Counter()

    def files(self, pattern: str, what: str) -> list[Path]:
        """The files that match a glob anywhere in the folder. Raises NotFoundError."""
        found = sorted(self.folder.rglob(pattern))
        if not found:
            raise NotFoundError(
                f"expected {what} ({pattern}) in {self.folder}, found none",
                hint="give the folder into which the data set was unpacked",
            )
        return found

    def media(self, name: str) -> Path | None:
        """Where the media file of that name lies; None, and counted as skipped, if nowhere.

        `name` may be a path, whose end must fit.
        """
        wanted = Path(name)
        for path in self._by_name.get(wanted.name, ()):
            if path.parts[-len(wanted.parts) :] == wanted.parts:
                return path
        self.skipped["media not there"] += 1
        return None

    @cached_property
    def _by_name(self) -> Mapping[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".mp4", ".mkv", ".webm"):
                found.setdefault(path.name, []).append(path)
        return found


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises ManifestError."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ManifestError(path, None, f"expected JSON, got {error}") from error


def read_parquet(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet table as far as it has those columns; `columns[0]` must be there.

    Raises ManifestError for another table, MilocoEdgeError without pyarrow.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MilocoEdgeError(
            "expected pyarrow to read Parquet tables, found none",
            hint="pip install 'miloco-edge[datasets]'",
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = [name for name in columns if name in file.schema_arrow.names]
            if columns[0] not in names:
                raise ManifestError(
                    path, None,
                    f"expected the columns {', '.join(columns)}, got "
                    f"{', '.join(file.schema_arrow.names)}",
                )  # fmt: skip
            for batch in file.iter_batches(_ROWS, columns=names):
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise ManifestError(path, None, f"expected a Parquet table, got {error}") from error


def field(row: Mapping[str, Any], name: str, kind: type, path: Path, number: int) -> Any:
    """A field of an annotation. Raises ManifestError where it is missing or of another type."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ManifestError(
            path, number, f"{name}: expected {kind.__name__}, got {value!r:.60}",
            hint="the data set may have changed its format",
        )  # fmt: skip
    return value
