"""How many layers of a model fit on the GPU, if this build of llama.cpp has one."""

from __future__ import annotations

import ctypes

import llama_cpp
from llama_cpp import _ggml

# Left free for compute buffers, the ViT's activations and the display.
_MARGIN_BYTES = 1 << 30
_GPU, _INTEGRATED_GPU = 1, 2  # ggml_backend_dev_type (ggml-backend.h)
_SAME_KERNELS = {"mtl": "metal", "rocm": "cuda", "musa": "cuda"}


def gpu_layers_that_fit(
    *, layers: int, weight_bytes: int, kv_bytes: int, vision_bytes: int, free_bytes: int
) -> int:
    """Layers to offload out of `layers` + 1 (the last is the output), by even shares.

    The ViT goes first, since it gains most; then as many layers, each with its share of the KV
    cache, as the free memory holds. All of it where everything fits.
    """
    room = free_bytes - _MARGIN_BYTES - vision_bytes
    per_layer = (weight_bytes + kv_bytes) / (layers + 1)
    return max(0, min(layers + 1, int(room / per_layer)))


def free_gpu_bytes() -> int:
    """Free memory of the first GPU, 0 where there is none or this build has no GPU backend."""
    device = _first_gpu()
    if device is None:
        return 0
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _ggml.libggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    return free.value


def gpu_backend() -> str | None:
    """What runs the first GPU, in small letters ("cuda", "metal", "vulkan"); None without one."""
    device = _first_gpu()
    if device is None:
        return None
    ggml = _ggml.libggml
    ggml.ggml_backend_dev_backend_reg.restype = ctypes.c_void_p
    ggml.ggml_backend_reg_name.restype = ctypes.c_char_p
    registry = ctypes.c_void_p(ggml.ggml_backend_dev_backend_reg(device))
    name: bytes = ggml.ggml_backend_reg_name(registry)
    backend = name.decode().lower()
    return _SAME_KERNELS.get(backend, backend)


def _first_gpu() -> ctypes.c_void_p | None:
    if not llama_cpp.llama_supports_gpu_offload():
        return None
    ggml = _ggml.libggml
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    for i in range(ggml.ggml_backend_dev_count()):
        device = ctypes.c_void_p(ggml.ggml_backend_dev_get(ctypes.c_size_t(i)))
        if ggml.ggml_backend_dev_type(device) in (_GPU, _INTEGRATED_GPU):
            return device
    return None
