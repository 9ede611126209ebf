"""llama.cpp's own command-line tools on the pairs that we write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.reference


def test_llama_mtmd_cli_answers_about_a_picture(pair: Path) -> None:
    tools, sdist = os.environ.get("MILOCO_EDGE_LLAMA_TOOLS"), os.environ.get("MILOCO_EDGE_SDIST")
    assert tools and sdist, "expected MILOCO_EDGE_LLAMA_TOOLS and MILOCO_EDGE_SDIST to be set"
    mmproj = next(pair.glob("mmproj*.gguf"))
    text = next(p for p in pair.glob("*.gguf") if p != mmproj)
    picture = Path(sdist) / "vendor" / "llama.cpp" / "tools" / "mtmd" / "test-1.jpeg"
    command = [Path(tools) / "llama-mtmd-cli", "-m", text, "--mmproj", mmproj, "--image", picture]
    said = subprocess.run(
        [*command, "-p", "What is it?", "-n", "8", "--temp", "0"],
        capture_output=True,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr.decode(errors="replace")[-2000:]
    assert said.stdout.strip(), "expected an answer on stdout"
