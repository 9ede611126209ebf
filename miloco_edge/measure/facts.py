"""What a pair of files costs by its shape: bytes to read, multiplications to make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from miloco_edge.llama import VisionShape


class Tensor(Protocol):
    """A tensor as a GGUF's header describes it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def nbytes(self) -> int: ...  # noqa: D102
    @property
    def parameters(self) -> int: ...  # noqa: D102


class Header(Protocol):
    """A GGUF's header (registry.read_header)."""

    @property
    def metadata(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def tensors(self) -> Sequence[Tensor]: ...  # noqa: D102


@dataclass(frozen=True)
class ModelFacts:
    """A pair by its headers. Sizes in bytes, work in floating point operations."""

    text_bytes: int
    mmproj_bytes: int
    parameters: int
    """Of both files."""
    text_type: str
    """The type of most weights of the layers."""
    vision_type: str
    layers: int
    width: int
    layer_parameters: int
    """Matrices of all layers."""
    token_bytes: int
    """Weights that are read for one token."""
    kv_bytes: int
    """KV cache of one token, in F16."""
    vision: VisionShape

    def prefill_flops(self, tokens: int) -> float:
        """Of so many tokens after nothing: matrices, and causal attention in full heads."""
        dense = 2 * self.layer_parameters * tokens
        return float(dense + 2 * self.layers * tokens**2 * self.width)


def facts_of(text: Header, mmproj: Header) -> ModelFacts:
    """Read them off both headers, which have passed `check_pair`."""
    known = text.metadata
    layers, width, heads, kv_heads = (
        int(known[f"qwen2vl.{name}"])
        for name in (
            "block_count", "embedding_length", "attention.head_count", "attention.head_count_kv",
        )
    )  # fmt: skip
    blocks = [t for t in text.tensors if t.name.startswith("blk.") and len(t.shape) > 1]
    tied = not any(t.name == "output.weight" for t in text.tensors)
    vision = mmproj.metadata
    return ModelFacts(
        text_bytes=sum(t.nbytes for t in text.tensors),
        mmproj_bytes=sum(t.nbytes for t in mmproj.tensors),
        parameters=sum(t.parameters for t in (*text.tensors, *mmproj.tensors)),
        text_type=_commonest(blocks),
        vision_type=_commonest(t for t in mmproj.tensors if len(t.shape) == 2),
        layers=layers,
        width=width,
        layer_parameters=sum(t.parameters for t in blocks),
        # Of the embedding one row is read, unless it is the output as well.
        token_bytes=sum(t.nbytes for t in text.tensors if tied or t.name != "token_embd.weight"),
        kv_bytes=layers * 2 * (width // heads) * kv_heads * 2,
        vision=VisionShape(
            layers=int(vision["clip.vision.block_count"]),
            hidden=int(vision["clip.vision.embedding_length"]),
            ffn=int(vision["clip.vision.feed_forward_length"]),
        ),
    )


def _commonest(tensors: Iterable[Tensor]) -> str:
    weights: Counter[str] = Counter()
    for tensor in tensors:
        weights[tensor.type] += tensor.parameters
    return weights.most_common(1)[0][0]
