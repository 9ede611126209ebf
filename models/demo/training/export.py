"""A trained model as a checkpoint folder in Hugging Face layout, in BF16."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from models.demo.training.architecture import (
    GENERATION,
    PREPROCESSOR,
    VIDEO_PREPROCESSOR,
)


def write_checkpoint(model: Any, tokenizer: Path, out: Path) -> Path:
    """Write weights, configuration, tokenizer and preprocessor into the folder `out`."""
    rounded = {name: weight.to(torch.bfloat16) for name, weight in model.state_dict().items()}
    model.save_pretrained(out, state_dict=rounded)
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = config["torch_dtype"] = "bfloat16"
    _write(out / "config.json", config)
    _write(out / "preprocessor_config.json", PREPROCESSOR)
    _write(out / "video_preprocessor_config.json", VIDEO_PREPROCESSOR)
    _write(out / "generation_config.json", GENERATION)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, out / name)
    return out


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
