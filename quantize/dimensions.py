"""The sizes of a Qwen2.5-VL model, read from config.json and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantize.checkpoint import Checkpoint
from quantize.errors import CheckpointError

MAX_SIZE = 1 << 18
"""No dimension of a model that runs at home comes near it."""


@dataclass(frozen=True)
class TextDimensions:
    """The language model."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


@dataclass(frozen=True)
class VisionDimensions:
    """The vision tower and the merger."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    patch: int
    projection: int
    """Width of a visual token: the language model's."""
    window_pattern: int
    """Every so many blocks, the last attends to the whole picture, the others to windows."""
    pad_ffn: int = 1
    """The file's FFN width is the next multiple of this; the rest is zero."""

    @property
    def padded_ffn(self) -> int:
        """FFN width in the file. Not `hidden`: clip.cpp would take up for down and swap them."""
        width = -(-self.ffn // self.pad_ffn) * self.pad_ffn
        return width + self.pad_ffn if width == self.hidden != self.ffn else width


def text_dimensions(checkpoint: Checkpoint) -> TextDimensions:
    """Return the language model's sizes; CheckpointError where one is missing or absurd."""
    config = checkpoint.text_config
    size = _Reader(checkpoint, config)
    hidden, heads = size("hidden_size"), size("num_attention_heads")
    return TextDimensions(
        layers=size("num_hidden_layers"),
        hidden=hidden,
        ffn=size("intermediate_size"),
        heads=heads,
        kv_heads=size("num_key_value_heads"),
        head_dim=size("head_dim") if config.get("head_dim") is not None else hidden // heads,
        vocabulary=size("vocab_size"),
    )


def vision_dimensions(
    checkpoint: Checkpoint, text: TextDimensions, pad_ffn: int = 1
) -> VisionDimensions:
    """Return the vision tower's sizes.

    Raises CheckpointError where one is missing or absurd, or is not what llama.cpp computes with
    (clip.cpp, qwen2vl.cpp: two frames to a temporal patch, 14 x 14 pixels to a patch, 2 x 2
    patches to a token, windows of 112 pixels, full attention in every n-th block).
    """
    config = checkpoint.vision_config
    size = _Reader(checkpoint, config)
    for name, only in (
        ("patch_size", 14), ("temporal_patch_size", 2), ("spatial_merge_size", 2),
        ("window_size", 112), ("in_chans", 3), ("in_channels", 3), ("hidden_act", "silu"),
        ("out_hidden_size", text.hidden),
    ):  # fmt: skip
        if config.get(name, only) != only:
            raise CheckpointError(
                checkpoint.path / "config.json",
                f"expected vision_config.{name} to be {only!r}, got {config[name]!r:.40}",
                hint="llama.cpp's vision tower for this architecture knows no other value",
            )
    return VisionDimensions(
        layers=size("depth"),
        hidden=size("hidden_size"),
        ffn=size("intermediate_size"),
        heads=size("num_heads"),
        patch=size("patch_size"),
        projection=text.hidden,
        window_pattern=_window_pattern(checkpoint, config),
        pad_ffn=pad_ffn,
    )


def _window_pattern(checkpoint: Checkpoint, config: Mapping[str, Any]) -> int:
    blocks = config.get("fullatt_block_indexes")
    if isinstance(blocks, list) and blocks and all(type(n) is int and n >= 0 for n in blocks):
        step: int = blocks[0] + 1
        if blocks == [step * (i + 1) - 1 for i in range(len(blocks))]:
            return step
    raise CheckpointError(
        checkpoint.path / "config.json",
        f"expected vision_config.fullatt_block_indexes like [7, 15, 23, 31], got {blocks!r:.80}",
        hint="a GGUF can only say that every n-th block attends to the whole picture",
    )


@dataclass(frozen=True)
class _Reader:
    checkpoint: Checkpoint
    config: Mapping[str, Any]

    def __call__(self, name: str) -> int:
        value = self.config.get(name)
        if type(value) is not int or not 0 < value <= MAX_SIZE:
            raise CheckpointError(
                self.checkpoint.path / "config.json",
                f"expected {name} to be a whole number from 1 to {MAX_SIZE}, got {value!r:.40}",
            )
        return value
