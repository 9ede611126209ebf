"""Flips bits in the headers of a pair and lets llama.cpp load what our checks let through.

    python -m tests.registry.load_flipped FOLDER text|mmproj ATTEMPTS SEED

Run in a process of its own, for llama.cpp aborts on what it does not like: that is what is being
tested. Prints how many files were accepted.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import llama_cpp
from llama_cpp import mtmd_cpp

from miloco_edge.errors import RefusedError
from miloco_edge.registry import check_pair, read_header
from tests.registry.gguf_bytes import flips


def load(text: Path, mmproj: Path) -> None:
    """Load both files as the engine does, and free them. A refusal is fine, an abort is not."""
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(text).encode(), params)
    if not model:
        return
    context_params = llama_cpp.llama_context_default_params()
    context_params.n_ctx = 64
    context = llama_cpp.llama_init_from_model(model, context_params)
    vision_params = mtmd_cpp.mtmd_context_params_default()
    vision_params.use_gpu = vision_params.warmup = False
    vision = mtmd_cpp.mtmd_init_from_file(str(mmproj).encode(), model, vision_params)
    if vision:
        mtmd_cpp.mtmd_free(vision)
    if context:
        llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def main(folder: str, which: str, attempts: str, seed: str) -> None:
    """Flip, check, load."""
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    (mmproj,) = Path(folder).glob("mmproj*.gguf")
    (text,) = set(Path(folder).glob("*.gguf")) - {mmproj}
    flipped = {"text": text, "mmproj": mmproj}[which]
    accepted = 0
    for _ in flips(flipped, read_header(flipped).data_offset, int(attempts), int(seed)):
        try:
            check_pair(read_header(text), read_header(mmproj))
        except RefusedError:
            continue
        accepted += 1
        load(text, mmproj)
    print(accepted)


if __name__ == "__main__":
    main(*sys.argv[1:])
