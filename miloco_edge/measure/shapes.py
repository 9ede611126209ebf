"""The sizes of Qwen2.5-VL models: a few by name, any other from a checkpoint's config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miloco_edge.errors import ManifestError, NotFoundError

_MOST = 1 << 18
"""No size of a model that runs at home comes near it."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2.5-VL model."""

    layers: int
    width: int
    ffn: int
    heads: int
    kv_heads: int
    tokens: int
    vit_layers: int
    vit_width: int
    vit_ffn: int
    vit_heads: int
    full_attention: int
    """Every so many layers of the ViT look at the whole picture."""
    rope_base: float = 1e6
    context: int = 32768
    tied: bool = False
    """Whether the embedding doubles as the output."""

    @property
    def kv_width(self) -> int:
        """Columns of K and of V."""
        return self.width // self.heads * self.kv_heads


SHAPES = {
    "tiny": Shape(3, 256, 512, 2, 1, 768, 4, 256, 512, 4, 2),
    "mimo-vl-7b": Shape(
        36, 4096, 11008, 32, 8, 151680, 32, 1280, 3456, 16, 8, rope_base=640_000.0, context=128_000
    ),
}


def read_shape(path: Path) -> Shape:
    """The sizes in a config.json, or in that of a folder.

    Raises NotFoundError, or ManifestError for what is no Qwen2.5-VL, or has sizes that llama.cpp's
    Q4_0 and Q6_K cannot hold.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"{path}: expected {', '.join(SHAPES)} or a config.json, found nothing",
            hint="a checkpoint's config.json is enough; its weights need not be here",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(path, None, f"expected JSON, got {error}") from error
    if not isinstance(config, dict) or config.get("model_type") != "qwen2_5_vl":
        kind = config.get("model_type") if isinstance(config, dict) else config
        raise ManifestError(path, None, f"expected model_type qwen2_5_vl, got {kind!r:.40}")
    text = _Sizes(path, config.get("text_config", config))  # transformers 4 has them on top
    vision = _Sizes(path, config.get("vision_config", {}))
    rope = text.known.get("rope_parameters") or text.known
    shape = Shape(
        layers=text.whole("num_hidden_layers"),
        width=text.whole("hidden_size", multiple_of=256),
        ffn=text.whole("intermediate_size", multiple_of=32),
        heads=text.whole("num_attention_heads"),
        kv_heads=text.whole("num_key_value_heads"),
        tokens=text.whole("vocab_size", least=SHAPES["tiny"].tokens),
        vit_layers=vision.whole("depth"),
        vit_width=vision.whole("hidden_size"),
        vit_ffn=vision.whole("intermediate_size"),
        vit_heads=vision.whole("num_heads"),
        full_attention=_pattern(path, vision.known.get("fullatt_block_indexes")),
        rope_base=_base(path, rope.get("rope_theta", Shape.rope_base)),
        context=text.whole("max_position_embeddings", most=1 << 24),
        tied=config.get("tie_word_embeddings") is True,
    )
    if shape.width % shape.heads or shape.heads % shape.kv_heads:
        raise ManifestError(
            path, None,
            f"expected heads that share {shape.width} and are shared by {shape.kv_heads}, "
            f"got {shape.heads}",
        )  # fmt: skip
    return shape


@dataclass(frozen=True)
class _Sizes:
    path: Path
    known: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.known, dict):  # whatever a file may hold
            raise ManifestError(self.path, None, f"expected an object, got {self.known!r:.40}")

    def whole(self, name: str, *, multiple_of: int = 1, least: int = 1, most: int = _MOST) -> int:
        value = self.known.get(name)
        if type(value) is not int or not least <= value <= most or value % multiple_of:
            wanted = f"a multiple of {multiple_of}" if multiple_of > 1 else "a whole number"
            raise ManifestError(
                self.path,
                None,
                f"{name}: expected {wanted} from {least} to {most}, got {value!r:.40}",
            )
        return value


def _pattern(path: Path, blocks: Any) -> int:
    """7, 15, 23 is every eighth layer: all that a GGUF can say."""
    if isinstance(blocks, list) and blocks and all(type(n) is int and n >= 0 for n in blocks):
        step: int = blocks[0] + 1
        if blocks == [step * (i + 1) - 1 for i in range(len(blocks))]:
            return step
    raise ManifestError(
        path, None, f"fullatt_block_indexes: expected like [7, 15, 23, 31], got {blocks!r:.60}"
    )


def _base(path: Path, value: Any) -> float:
    if type(value) not in (int, float) or not 1 < value < 1e12:
        raise ManifestError(path, None, f"rope_theta: expected a number, got {value!r:.40}")
    return float(value)
