"""Whether files are, byte for byte, what their manifest or the hub says they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

from miloco_edge.errors import GGUFError
from miloco_edge.registry.gguf_header import read_header
from miloco_edge.registry.pair import check_pair
from miloco_edge.registry.resolve import ModelFiles


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(files: ModelFiles) -> dict[str, bool | None]:
    """Hash both files and compare; None for a file whose checksum nobody states.

    Both headers are checked as they are before a model is loaded. Raises GGUFError or
    ModelMismatchError on the first difference.
    """
    verified: dict[str, bool | None] = {}
    for path, expected in ((files.text, files.sha256), (files.mmproj, files.mmproj_sha256)):
        if expected is None:
            verified[path.name] = None
            continue
        found = sha256_of(path)
        if found != expected:
            raise GGUFError(
                path, f"expected sha256 {expected}, got {found}",
                hint="the file has changed since it was made; pull or quantize it again",
            )  # fmt: skip
        verified[path.name] = True
    check_pair(read_header(files.text), read_header(files.mmproj))
    return verified
