"""The manifest that `quantize` writes beside a pair: which files belong together, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miloco_edge.errors import ModelMismatchError
from miloco_edge.registry.whole import write_whole

SUFFIX = ".manifest.json"
MAX_BYTES = 64 << 20

Manifest = Mapping[str, Any]


def read_manifest(path: Path) -> Manifest:
    """Read one manifest.

    Raises ModelMismatchError where it is not a JSON object with a list of outputs.
    """
    hint = "quantize again, or remove the manifest to use the files without it"
    if path.stat().st_size > MAX_BYTES:
        raise ModelMismatchError(path, f"expected at most {MAX_BYTES} bytes, got more", hint=hint)
    try:
        manifest = json.loads(path.read_bytes())
        names = [output["file"] for output in manifest["outputs"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelMismatchError(
            path, f"expected a manifest in JSON, got {type(error).__name__}: {error}", hint=hint
        ) from None
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelMismatchError(path, f"expected plain file names, got {names}", hint=hint)
    return manifest  # type: ignore[no-any-return]


def find_manifest(text: Path) -> Path | None:
    """The manifest beside `text` that names it as an output, if there is one."""
    for path in sorted(text.parent.glob(f"*{SUFFIX}")):
        if text.name in output_names(read_manifest(path)):
            return path
    return None


def output_names(manifest: Manifest) -> list[str]:
    """The files that the manifest describes."""
    return [output["file"] for output in manifest.get("outputs", ())]


def output_sha256(manifest: Manifest | None, name: str) -> str | None:
    """The checksum that the manifest states for the file `name`."""
    for output in manifest["outputs"] if manifest else ():
        if output["file"] == name:
            value = output.get("sha256")
            return value if isinstance(value, str) else None
    return None


def write_field(text: Path, mmproj: Path, name: str, value: object) -> Path:
    """Set one field of the manifest beside `text`, whole or not at all; the manifest's path.

    A pair that has none, as one from a hub, gets one that names its files.
    """
    path = find_manifest(text)
    if path is None:
        path = text.with_name(f"{text.stem}{SUFFIX}")
        pair = [text.name] + ([mmproj.name] if mmproj.parent == text.parent else [])
        manifest: dict[str, Any] = {"outputs": [{"file": file} for file in pair]}
    else:
        manifest = dict(read_manifest(path))
    manifest[name] = value
    document = json.dumps(manifest, ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(path, document + "\n")
    return path
