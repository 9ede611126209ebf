"""The demo model's sizes, and its tokenizer's ids, as a transformers configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from models.demo.training.conversation import id_of

HIDDEN = 256
"""Of both towers: every row of every matrix is a multiple of 256, legal for each quant type."""

HEADS = 4
"""Of a text layer."""

ROPE_THETA = 10.0
"""Low, since M-RoPE gives columns the slowest turning part of a head: at 10 000 the columns of a
clip of 16 tokens would be 0.05 radians apart from end to end, and at 200 still half a radian, at
which the model never learnt which of two people is on the left."""
MROPE_SECTION = [8, 10, 14]
"""Pairs of a head that turn by time, row and column."""

PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
    "min_pixels": 20 * 28 * 28,
    "max_pixels": 200 * 28 * 28,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}

VIDEO_PREPROCESSOR = {
    "video_processor_type": "Qwen2VLVideoProcessor",
    "size": {"shortest_edge": 20 * 28 * 28, "longest_edge": 200 * 28 * 28},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "fps": 2,
    "min_frames": 4,
    "max_frames": 64,
    "image_mean": PREPROCESSOR["image_mean"],
    "image_std": PREPROCESSOR["image_std"],
}
"""Frames of 20 to 200 visual tokens, near what the drawn clips have."""

GENERATION = {"do_sample": False}


def configuration(tokenizer: Tokenizer) -> Qwen2_5_VLConfig:
    """9 million weights: 6 ViT layers, each second one with full attention, and 4 text layers."""
    ids = {
        name: id_of(token, tokenizer)
        for name, token in {
            "vision_start_token_id": "<|vision_start|>",
            "vision_end_token_id": "<|vision_end|>",
            "image_token_id": "<|image_pad|>",
            "video_token_id": "<|video_pad|>",
        }.items()
    }
    text: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": ROPE_THETA,
            "mrope_section": MROPE_SECTION,
        },
        "bos_token_id": id_of("<|endoftext|>", tokenizer),
        "eos_token_id": id_of("<|im_end|>", tokenizer),
        "pad_token_id": id_of("<|endoftext|>", tokenizer),
    }
    vision: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "intermediate_size": 512,
        "depth": 6,
        "num_heads": 4,
        "out_hidden_size": HIDDEN,
        "fullatt_block_indexes": [1, 3, 5],
        "tokens_per_second": 2,
        "window_size": 112,
    }
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=False, **ids
    )


def new_model(tokenizer: Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """A model with random weights, in float32; torch's seed decides them."""
    return Qwen2_5_VLForConditionalGeneration._from_config(
        configuration(tokenizer), attn_implementation="sdpa"
    )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
