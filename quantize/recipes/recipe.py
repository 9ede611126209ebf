"""What a recipe is: pure functions from the contents of a file to the types of its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from quantize.codec import Type, block_size
from quantize.names import File, Tensor

BF16_MMPROJ = "bf16"
"""F16 overflows in this vision tower; what is smaller than BF16 is not faster everywhere."""


@dataclass(frozen=True)
class Contents:
    """What a recipe may know of a file."""

    file: File
    tensors: tuple[Tensor, ...]
    """All of it, in order: llama-quantize's mixtures count positions."""
    layers: int = 0
    """Of the language model; 0 in an mmproj, where llama-quantize reads none."""
    queries_per_key: int = 0
    """Query heads that share a key head; 0 in an mmproj."""
    has_imatrix: bool = False

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Those that llama.cpp allows to be quantized: matrices but for the patch convolution."""
        return tuple(
            tensor
            for tensor in self.tensors
            if len(tensor.shape) >= 2 and not is_convolution(tensor)
        )

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Where each weight stands among those of its role, by name."""
        seen: Counter[str] = Counter()
        positions = {}
        for tensor in self.weights:
            positions[tensor.name] = seen[role(tensor)]
            seen[role(tensor)] += 1
        return positions

    @cached_property
    def roles(self) -> Mapping[str, int]:
        """How many weights there are of each role."""
        return Counter(role(tensor) for tensor in self.weights)


Choice = Callable[[Contents], Mapping[str, Type]]
"""The type of every one of `Contents.weights`, by name."""


@dataclass(frozen=True)
class Recipe:
    """A named choice of types for the two files."""

    name: str
    text: Choice
    vision: Choice | None
    """None where it speaks of the language model alone."""
    mmproj: str | None = None
    """The recipe whose `vision` goes with `text` unless the user names another; None: its own."""
    file_type: int | None = None
    """llama.cpp's enum llama_ftype for general.file_type; None: that of most weights."""
    convolution: Type = Type.F32
    """Of the patch convolution: too small to matter, but the converter makes it F16 with F16."""
    pad_ffn: int = 1
    """The vision tower's FFN is padded with zeros to a multiple of this."""


def role(tensor: Tensor) -> str:
    """Return what a weight is for: "ffn_down" of "blk.3.ffn_down.weight"."""
    return tensor.name.split(".")[-2]


def is_convolution(tensor: Tensor) -> bool:
    """Whether it is the patch convolution's, which ggml computes in F32 or F16 alone."""
    return ".patch_embd." in tensor.name


def choose_types(recipe: Recipe, contents: Contents) -> list[tuple[Tensor, Type]]:
    """Return the file's tensors with their types, in order.

    What is not a weight is F32. A type whose blocks do not fit into the tensor's rows is replaced
    as llama-quantize does (src/llama-quant.cpp, tensor_type_fallback).
    """
    choice = recipe.text if contents.file == "text" else recipe.vision
    assert choice is not None
    chosen = choice(contents)

    def type(tensor: Tensor) -> Type:
        if is_convolution(tensor):
            return recipe.convolution
        return _fitted(tensor, chosen[tensor.name]) if tensor.name in chosen else Type.F32

    return [(tensor, type(tensor)) for tensor in contents.tensors]


_FALLBACKS = {
    Type.IQ3_XXS: Type.IQ4_NL, Type.IQ3_S: Type.IQ4_NL, Type.IQ4_XS: Type.IQ4_NL,
    Type.Q2_K: Type.Q4_0, Type.Q3_K: Type.Q4_0, Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
}  # fmt: skip


def _fitted(tensor: Tensor, type: Type) -> Type:
    for candidate in (type, _FALLBACKS.get(type, Type.F16)):
        if tensor.columns % block_size(candidate) == 0:
            return candidate
    return Type.F16


_FILE_TYPES = {
    Type.F32: 0, Type.F16: 1, Type.Q4_0: 2, Type.Q4_1: 3, Type.Q8_0: 7, Type.Q5_0: 8,
    Type.Q5_1: 9, Type.Q2_K: 10, Type.Q3_K: 12, Type.Q4_K: 15, Type.Q5_K: 17, Type.Q6_K: 18,
    Type.IQ3_XXS: 23, Type.IQ4_NL: 25, Type.IQ3_S: 26, Type.IQ4_XS: 30, Type.BF16: 32,
}  # fmt: skip


def file_type(recipe: Recipe, types: list[tuple[Tensor, Type]]) -> int:
    """Return general.file_type.

    A recipe that is none of llama-quantize's has the one that llama.cpp guesses by the most
    frequent type where a file does not say (src/llama-model-loader.cpp); here weights are counted.
    """
    if recipe.file_type is not None:
        return recipe.file_type
    counts: Counter[Type] = Counter()
    for tensor, type in types:
        counts[type] += tensor.count
    return _FILE_TYPES[counts.most_common(1)[0][0]]
