"""Small files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Put `text` where it is to be, in UTF-8; nothing half written is left. Raises OSError.

    Of a file's name that is not in UTF-8 it keeps an escape, which in JSON is one too.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, "utf-8", "backslashreplace")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
