"""Manifests from the public data sets that a user has on disk.

`convert("charades-sta", Path("Charades"), Path("charades.jsonl"))` reads the annotations in the
data set's own format and writes one line a question. Media stay where they are; only pictures that
come inside of tables (MMMU-Pro) are written out, beside the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from miloco_edge.errors import ManifestError, NotFoundError
from miloco_edge.evaluate.convert import charades, hagrid, screenspot, tables, toyota
from miloco_edge.evaluate.convert.source import Source
from miloco_edge.evaluate.manifest import Item, to_line

CONVERTERS: Mapping[str, Callable[[Source], Iterator[Item]]] = {
    "hagrid": hagrid.read,
    "toyota-smarthome": toyota.read,
    "charades-sta": charades.read,
    "video-mme": tables.read_video_mme,
    "mmmu-pro": tables.read_mmmu_pro_standard,
    "mmmu-pro-vision": tables.read_mmmu_pro_vision,
    "screenspot": screenspot.read_v1,
    "screenspot-v2": screenspot.read_v2,
    "screenspot-pro": screenspot.read_pro,
    "mmlu-pro": tables.read_mmlu_pro,
}


@dataclass(frozen=True)
class Converted:
    """What was written."""

    path: Path
    items: int
    skipped: Mapping[str, int]
    """Why annotations were left out, and how many."""


def convert(name: str, folder: Path, out: Path) -> Converted:
    """Write the manifest of a data set in `folder`; `name` is one of CONVERTERS.

    Lines are in an order that has nothing to do with the data set's, so that the first ones are a
    fair sample; questions about the same media stay together. Raises NotFoundError where the folder
    is not there or holds no annotations, ManifestError where one is not in the data set's format or
    no media are there for any.
    """
    if not folder.is_dir():
        raise NotFoundError(f"expected a folder at {folder}, found none", hint="check the path")
    source = Source(folder, out)
    items = sorted(CONVERTERS[name](source), key=_chance)
    if not items:
        raise ManifestError(
            folder, None,
            f"expected media for {source.skipped.total()} annotations of {name}, found none",
            hint="unpack the data set's archives into the folder",
        )  # fmt: skip
    lines = (json.dumps(to_line(item, out.parent), ensure_ascii=False) for item in items)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Converted(out, len(items), dict(source.skipped))


def _chance(item: Item) -> tuple[int, str]:
    shown = "|".join(path.name for path in item.media) or item.id
    return crc32(shown.encode()), shown
