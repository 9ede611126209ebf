"""The commands of the documentation, run as a reader would run them.

A block after `<!-- run -->` is run, a block after `<!-- file: NAME -->` is written to NAME; those
of a page in order and in one folder, with a tiny random model as the default one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(
    r"^<!-- (?P<what>run|file: (?P<file>[\w.-]+)) -->\n```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block that is marked."""

    kind: str
    text: str
    file: str | None

    def command(self) -> list[str]:
        """How it is run: shell, a console session without its prompts and answers, or Python."""
        match self.kind:
            case "sh":
                return ["bash", "-euo", "pipefail", "-c", self.text]
            case "console":
                typed = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
                assert typed, f"no command in {self.text!r}"
                return ["bash", "-euo", "pipefail", "-c", "\n".join(typed)]
            case "python":
                return [sys.executable, "-c", self.text]
        raise AssertionError(f"expected sh, console or python, got {self.kind}")


def blocks(page: Path) -> list[Block]:
    """The marked blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = [Block(m["kind"], m["text"], m["file"]) for m in _BLOCK.finditer(text)]
    marks = len(re.findall(r"^<!-- (?:run|file: )", text, re.MULTILINE))
    assert len(found) == marks, f"{page.name}: a mark without its block"
    return found


RUNNABLE = {page.relative_to(ROOT).as_posix(): found for page in PAGES if (found := blocks(page))}


def test_the_pages_that_teach_are_run() -> None:
    guides = {f"docs/{name}.md" for name in ("getting-started", "embed", "quantize", "zh/README")}
    assert {"README.md", *guides} <= set(RUNNABLE)


@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_runs_as_written(page: str, pair: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder, home = tmp_path / "folder", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    shutil.copy(ROOT / "models" / "demo" / "ball.mp4", folder / "clip.mp4")
    Image.new("RGB", (320, 240), "teal").save(folder / "door.jpg")
    (folder / "checkpoint").symlink_to(checkpoint)
    (folder / "models").mkdir()
    (folder / "models" / "demo").symlink_to(ROOT / "models" / "demo")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "MILOCO_EDGE_MODEL": str(pair),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    for block in RUNNABLE[page]:
        if block.file is not None:
            (folder / block.file).write_text(block.text)
            continue
        done = subprocess.run(
            block.command(), cwd=folder, env=environment, capture_output=True, text=True,
            timeout=300, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
