"""llama.cpp's own command-line tools on the pairs that we write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from miloco_edge import Budget, Clip, Engine
from quantize import quantize
from quantize.devices import DEVICES
from quantize.recipes import NAMES

pytestmark = pytest.mark.reference


OUTPUTS = {
    **{name: {"recipe": name} for name in NAMES},
    "q4_k_m with the same mmproj": {"recipe": "q4_k_m", "mmproj_type": "q4_k_m"},
    "a budget": {"budget": "6MB", "device": DEVICES["x86"]},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_answers_there_and_here(name: str, checkpoint: Path, tmp_path: Path) -> None:
    quantize(checkpoint, tmp_path, **OUTPUTS[name])
    answers_about_a_picture(tmp_path)
    with Engine.load(tmp_path, threads=1, context=1024) as engine:
        grey = np.full((112, 112, 3), 128, np.uint8)
        with engine.look(Clip.from_images([grey])) as scene:
            assert scene.ask("What?", budget=Budget(answer_tokens=4)).usage.completion_tokens > 0


def answers_about_a_picture(pair: Path) -> None:
    """llama-mtmd-cli answers with this pair, or the test fails."""
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
