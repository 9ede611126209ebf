"""A text model's weights and vocabulary."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from miloco_edge.errors import ModelLoadError
from miloco_edge.llama import native

# Types whose weights llama.cpp repacks into rows interleaved for the CPU (ggml-cpu/repack.cpp).
# On x86 the tiled kernels beat repacked K-quants in prefill 1.6 times, so only these are worth it.
_REPACK_ON_X86 = frozenset({"Q4_0", "IQ4_NL"})


@dataclass(frozen=True)
class WeightPlan:
    """How weights get into memory.

    Repacked tensors are private copies. With mmap the file's pages stay resident beside them
    (8.4 GB instead of 5.0 GB for a 7B Q4_0), so repacking loads without mmap; what is not
    repacked stays mapped, shared and evictable.
    """

    repack: bool
    mmap: bool


def plan_weights(file_type: str, machine: str, gpu_layers: int) -> WeightPlan:
    """Choose repacking and load mode from the file type ("Q4_0", "Q4_K_M") and `uname -m`."""
    x86 = machine.lower() in {"x86_64", "amd64", "i686"}
    repack = gpu_layers == 0 and (not x86 or file_type in _REPACK_ON_X86)
    return WeightPlan(repack=repack, mmap=not repack)


class TextModel:
    """Weights and vocabulary; close it after every context made from it."""

    def __init__(
        self,
        path: Path,
        *,
        file_type: str,
        gpu_layers: int = 0,
        repack: bool | None = None,
        mmap: bool | None = None,
    ) -> None:
        """Load a GGUF that `registry` has checked: llama.cpp aborts the process on some bad ones.

        `repack` and `mmap` override what `plan_weights` says; mmap follows repack where it is None.
        Raises ModelLoadError with llama.cpp's own last word if it still refuses.
        """
        native.start_backend()
        self.path = path
        plan = plan_weights(file_type, platform.machine(), gpu_layers)
        repack = plan.repack if repack is None else repack
        self.plan = WeightPlan(repack, (not repack) if mmap is None else mmap)
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.use_extra_bufts = self.plan.repack
        params.load_mode = (
            llama_cpp.LLAMA_LOAD_MODE_MMAP if self.plan.mmap else llama_cpp.LLAMA_LOAD_MODE_NONE
        )
        native.take_last_error()
        handle = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not handle:
            raise ModelLoadError(
                f"{path.name}: llama.cpp could not load it: {native.take_last_error()}",
                hint="run `miloco-edge show FILE --verify`, or quantize the checkpoint again",
            )
        self.handle = handle
        self.vocab = llama_cpp.llama_model_get_vocab(handle)
        self.n_embd = int(llama_cpp.llama_model_n_embd(handle))
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(handle))

    def close(self) -> None:
        """Free the weights; a second call does nothing."""
        if self.handle:
            llama_cpp.llama_model_free(self.handle)
            self.handle = None

    def chat_template(self) -> str | None:
        """The Jinja template that the GGUF carries."""
        template = llama_cpp.llama_model_chat_template(self.handle, None)
        return template.decode("utf-8", "replace") if template else None

    def tokenize(self, text: str, *, special: bool) -> NDArray[np.int32]:
        """Token ids of `text`: (n,) int32. `special` lets control tokens be spelled in it.

        No token is ever added in front: Qwen2 has no BOS.
        """
        data = text.encode()
        capacity = len(data) + 8
        buffer = (ctypes.c_int32 * capacity)()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), buffer, capacity, False, special)
        if n < 0:
            raise ValueError(f"expected at most {capacity} tokens, got {-n}")
        return np.ctypeslib.as_array(buffer)[:n].copy()

    def piece(self, token: int) -> bytes:
        """The bytes of a token; control tokens have none. May end inside a UTF-8 character."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, size, 0, False)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def text_of(self, token: int) -> str:
        """The vocabulary's own spelling of a token, control tokens included."""
        raw = self.piece(token)
        if raw:
            return raw.decode("utf-8", "replace")
        spelled = llama_cpp.llama_vocab_get_text(self.vocab, token)
        return spelled.decode("utf-8", "replace") if spelled else ""

    def ends_generation(self, token: int) -> bool:
        """Whether the token ends the model's turn."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))
