"""What the site does to pages that GitHub shows as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+|examples/[^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links to files of the repository that are no pages become their names: they have no address.

    `tests/docs` sees to it that the files exist.
    """
    folder = Path(page.file.src_uri).parent

    def name(match: re.Match[str]) -> str:
        text, target = match.groups()
        inside = not target.startswith("examples/") and _inside(folder, target)
        return match.group() if inside else f"{text} (`{_clean(folder, target)}`)"

    return _LINK.sub(name, markdown)


def _inside(folder: Path, target: str) -> bool:
    """Whether a relative link stays within docs/."""
    return ".." not in Path(_normal(folder / target)).parts


def _clean(folder: Path, target: str) -> str:
    """The link's target as seen from the repository's root."""
    return _normal(Path("docs") / folder / target)


def _normal(path: Path) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
