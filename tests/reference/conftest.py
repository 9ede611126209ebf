"""Checkpoints, and what llama.cpp's own tools make of them, each made once a session.

`MILOCO_EDGE_SDIST` names the unpacked llama-cpp-python sdist, whose llama.cpp is the one that
the installed library was built from; `MILOCO_EDGE_LLAMA_TOOLS` the folder of its tools.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthesize import TINY, Shape, synthesize
from quantize import quantize

# The real vocabulary: the converter knows pre-tokenizers by the ids of a test text.
SHAPE = replace(TINY, vocab_size=151_680)
# The second has layers, heads and blocks enough for every rule of llama-quantize's mixtures.
CHECKPOINTS: dict[str, tuple[Shape, dict[str, Any]]] = {
    "flat-tied": (SHAPE, {"tied": True, "chat_template_where": "jinja"}),
    "nested-untied-sharded": (
        replace(
            SHAPE, rms_norm_eps=1e-5, rope_theta=640_000.0, num_hidden_layers=16,
            num_attention_heads=8, num_key_value_heads=2, head_dim=32, mrope_section=(4, 6, 6),
            vit_depth=12, fullatt_block_indexes=(3, 7, 11),
        ),
        {"flat_config": False, "shards": 3, "merges_as_pairs": True, "head_dim_in_config": True,
         "chat_template_where": "json"},
    ),
    "odd-vit-ffn": (
        replace(SHAPE, vit_intermediate_size=420, intermediate_size=480),
        {"prefix": "model.language_model."},
    ),
}  # fmt: skip
Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def llama_cpp_source() -> Path:
    folder = os.environ.get("MILOCO_EDGE_SDIST")
    assert folder, "expected MILOCO_EDGE_SDIST to name the unpacked llama-cpp-python sdist"
    source = Path(folder) / "vendor" / "llama.cpp"
    assert (source / "convert_hf_to_gguf.py").is_file(), f"no converter in {source}"
    return source


@pytest.fixture(scope="session", params=CHECKPOINTS)
def checkpoints(
    request: pytest.FixtureRequest, llama_cpp_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The checkpoint for us, and the same for the converter.

    They differ in the names of the tensors alone, and only where the converter would silently
    write an mmproj without tensors: it does not know `model.visual.`.
    """
    shape, quirks = CHECKPOINTS[request.param]
    quirks = {"vocabulary": llama_cpp_source / "models" / "ggml-vocab-qwen2.gguf", **quirks}
    name = f"Tiny-VL-{request.param}-1B"
    ours = synthesize(tmp_path_factory.mktemp("ours") / name, shape, **quirks)
    if quirks.pop("prefix", "model.") == "model.":
        return ours, ours
    return ours, synthesize(tmp_path_factory.mktemp("theirs") / name, shape, **quirks)


@pytest.fixture(scope="session")
def converted(
    checkpoints: tuple[Path, Path], llama_cpp_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pair]:
    """The converter's pair by outtype, each made once."""
    out = tmp_path_factory.mktemp("converted")
    return cache(lambda outtype: convert(llama_cpp_source, checkpoints[1], out, outtype))


def convert(source: Path, checkpoint: Path, out: Path, outtype: str) -> Pair:
    """Run the reference converter for the text file and for the mmproj."""
    pair = out / f"text-{outtype}.gguf", out / f"mmproj-{outtype}.gguf"
    for path, flags in zip(pair, ([], ["--mmproj"]), strict=True):
        command = [sys.executable, str(source / "convert_hf_to_gguf.py"), str(checkpoint)]
        command += ["--outtype", outtype, "--outfile", str(path), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return pair


@pytest.fixture(scope="session")
def llama_quantize() -> Path:
    """llama-quantize, built from the same sdist."""
    folder = os.environ.get("MILOCO_EDGE_LLAMA_TOOLS")
    assert folder, "expected MILOCO_EDGE_LLAMA_TOOLS to name the folder of llama-quantize"
    return Path(folder) / "llama-quantize"


def our_pair(checkpoint: Path, out: Path, recipe: str, imatrix: Path | None = None) -> Pair:
    """Run our pipeline, the recipe for both files."""
    made = quantize(checkpoint, out, recipe=recipe, mmproj_type=recipe, imatrix=imatrix)
    text, mmproj = (out / output.file for output in made.outputs)
    return text, mmproj
