"""What the GGUF headers say of a model's size, and what follows from it."""

from __future__ import annotations

from typing import Literal

from miloco_edge.llama import VisionShape, free_gpu_bytes, gpu_layers_that_fit
from miloco_edge.registry import GGUFHeader


def vision_shape(mmproj: GGUFHeader) -> VisionShape:
    """The ViT's dimensions."""
    return VisionShape(
        layers=int(mmproj.metadata["clip.vision.block_count"]),
        hidden=int(mmproj.metadata["clip.vision.embedding_length"]),
        ffn=int(mmproj.metadata["clip.vision.feed_forward_length"]),
    )


def gpu_layers(
    wanted: int | Literal["auto"], text: GGUFHeader, mmproj: GGUFHeader, n_ctx: int
) -> int:
    """Layers on the GPU: as many as wanted, or as many as its free memory holds beside the rest."""
    if wanted != "auto":
        return wanted
    if (free := free_gpu_bytes()) == 0:
        return 0
    metadata = text.metadata
    layers = int(metadata["qwen2vl.block_count"])
    heads, heads_kv = (int(metadata[f"qwen2vl.attention.head_count{kv}"]) for kv in ("", "_kv"))
    head_dim = int(
        metadata.get(
            "qwen2vl.attention.key_length", int(metadata["qwen2vl.embedding_length"]) // heads
        )
    )
    return gpu_layers_that_fit(
        layers=layers,
        weight_bytes=sum(t.nbytes for t in text.tensors),
        kv_bytes=layers * 2 * heads_kv * head_dim * 2 * n_ctx,
        vision_bytes=sum(t.nbytes for t in mmproj.tensors),
        free_bytes=free,
    )
