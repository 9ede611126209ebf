"""transformers' side of the comparison: pixels, positions, visual embeddings, distribution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from miloco_edge.llama import log_softmax

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as transformers loads it, in float32."""

    model: Any
    tokenizer: Any


def load(folder: Path) -> Checkpoint:
    """Load a checkpoint in Hugging Face layout."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return Checkpoint(model.eval(), AutoTokenizer.from_pretrained(folder))


def patches(pictures: list[NDArray[np.uint8]]) -> tuple[torch.Tensor, torch.Tensor]:
    """pixel_values (t * h * w, 1176) and grid (1, 3) as Qwen2VLImageProcessor lays them out."""
    if len(pictures) % 2:
        pictures = [*pictures, pictures[-1]]
    stack = (np.stack(pictures).astype(np.float32) / 255 - MEAN) / STD
    n, height, width, _ = stack.shape
    t, h, w = n // 2, height // 14, width // 14
    cells = stack.transpose(0, 3, 1, 2).reshape(t, 2, 3, h // 2, 2, 14, w // 2, 2, 14)
    values = cells.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, -1)
    return torch.from_numpy(values.copy()), torch.tensor([[t, h, w]])


@dataclass(frozen=True)
class Theirs:
    """What transformers makes of a prompt."""

    logprobs: NDArray[np.float64]
    positions: NDArray[np.int64]
    embeddings: NDArray[np.float32] | None


def theirs(
    checkpoint: Checkpoint,
    question: str,
    media: str,
    pictures: dict[str, list[list[NDArray[np.uint8]]]],
    fps: float | None = None,
) -> Theirs:
    """Run transformers on the prompt: system, `media`, question."""
    system = "You are MiMo, an AI assistant developed by Xiaomi."
    text = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{media}{question} /no_think"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    inputs: dict[str, Any] = {}
    embeddings = None
    for pad, key in ((IMAGE, "image"), (VIDEO, "video")):
        if not pictures.get(key):
            continue
        every = [patches(group) for group in pictures[key]]
        for _, grid in every:
            text = text.replace(pad, "<pad>" * int(grid.prod() // 4), 1)
        text = text.replace("<pad>", pad)
        values, grids = (torch.cat(part) for part in zip(*every, strict=True))
        name = "pixel_values" if key == "image" else "pixel_values_videos"
        inputs |= {name: values, f"{key}_grid_thw": grids}
        with torch.no_grad():
            features = getattr(checkpoint.model.model, f"get_{key}_features")(values, grids)
        features = getattr(features, "pooler_output", features)
        embeddings = torch.cat(list(features)).numpy()
    ids = checkpoint.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    image, video = checkpoint.tokenizer.convert_tokens_to_ids([IMAGE, VIDEO])
    if fps is not None:
        inputs["second_per_grid_ts"] = torch.tensor([2 / fps])
    if pictures:
        types = (ids == image).int() + 2 * (ids == video).int()
        inputs["mm_token_type_ids"] = types
        grids = {k: v for k, v in inputs.items() if k.endswith(("_thw", "_ts"))}
        positions, _ = checkpoint.model.model.get_rope_index(ids, types, **grids)
        positions = positions[:, 0].numpy()
    else:
        positions = np.tile(np.arange(ids.shape[1]), (3, 1))
    with torch.no_grad():
        logits = checkpoint.model(input_ids=ids, **inputs).logits[0, -1].numpy()
    return Theirs(log_softmax(logits), positions, embeddings)
