"""Both output files as far as they are known before a weight is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quantize.checkpoint import Checkpoint
from quantize.codec import SOURCES, Floats, block_size
from quantize.container import Layout, lay_out
from quantize.dimensions import (
    TextDimensions,
    VisionDimensions,
    text_dimensions,
    vision_dimensions,
)
from quantize.errors import CheckpointError
from quantize.guide import Guide, check_guided, importances, read_guide
from quantize.metadata import Fields, mmproj_fields, text_fields
from quantize.names import Tensor, mmproj_tensors, text_tensors
from quantize.recipes import Contents, Recipe, choose_types, file_type
from quantize.vocabulary import Vocabulary, read_vocabulary

_MakeFields = Callable[[int, Guide | None], Fields]
"""From general.file_type and the imatrix to a file's keys."""


@dataclass(frozen=True)
class Plan:
    """One output file, before a weight is read."""

    path: Path
    layout: Layout
    guide: Guide | None
    """None where nothing is quantized, or no imatrix is given."""
    importances: Mapping[str, Floats]


@dataclass(frozen=True)
class Survey:
    """A checkpoint that holds what a pair is made of; types are not chosen yet."""

    source: Checkpoint
    sizes: TextDimensions
    vocabulary: Vocabulary
    guide: Guide | None

    def text(self) -> Contents:
        """The text file's tensors."""
        tensors = text_tensors(self.sizes, tied=_is_tied(self.source))
        queries_per_key = self.sizes.heads // self.sizes.kv_heads
        return Contents(
            "text", tuple(tensors), self.sizes.layers, queries_per_key, self.guide is not None
        )

    def vision(self, pad_ffn: int) -> VisionDimensions:
        """The vision tower's sizes, its FFN padded to a multiple of `pad_ffn`."""
        return vision_dimensions(self.source, self.sizes, pad_ffn)

    def mmproj(self, pad_ffn: int) -> Contents:
        """The mmproj's tensors, the FFN padded to a multiple of `pad_ffn`."""
        tensors = mmproj_tensors(self.vision(pad_ffn))
        return Contents("mmproj", tuple(tensors), has_imatrix=self.guide is not None)

    def plan(self, out: Path, recipe: Recipe, mmproj: Recipe) -> tuple[Plan, Plan]:
        """Plan the text file by `recipe` and the mmproj by `mmproj`, in the folder `out`."""
        source, text, vision = self.source, self.text(), self.mmproj(mmproj.pad_ffn)

        def plan(name: str, recipe: Recipe, contents: Contents, fields: _MakeFields) -> Plan:
            types = choose_types(recipe, contents)
            check_guided(recipe.name, contents.file, types, self.guide)
            used = self.guide if any(block_size(type) > 1 for _, type in types) else None
            layout = lay_out(fields(file_type(recipe, types), used), types)
            return Plan(out / name, layout, used, importances(used, types) if used else {})

        return (
            plan(
                f"{source.name}-{recipe.name}.gguf", recipe, text,
                lambda type, guide: text_fields(
                    source, self.sizes, text.tensors, self.vocabulary, type, guide
                ),
            ),
            plan(
                f"mmproj-{source.name}-{mmproj.name}.gguf", mmproj, vision,
                lambda type, guide: mmproj_fields(
                    source, self.vision(mmproj.pad_ffn), vision.tensors, type, guide
                ),
            ),
        )  # fmt: skip


def survey(source: Checkpoint, imatrix: Path | None) -> Survey:
    """Check that the checkpoint, and the imatrix if there is one, are of this architecture.

    Raises CheckpointError, NotFoundError, or ImatrixError for an imatrix of another model.
    """
    sizes = text_dimensions(source)
    vision = mmproj_tensors(vision_dimensions(source, sizes))
    tensors = [*text_tensors(sizes, tied=_is_tied(source)), *vision]
    _check_tensors(source, tensors)
    vocabulary = read_vocabulary(source, sizes.vocabulary)
    return Survey(source, sizes, vocabulary, read_guide(imatrix, tensors) if imatrix else None)


def _is_tied(source: Checkpoint) -> bool:
    """Whether the embedding doubles as the output; a separate output, if stored, is used."""
    return source.text_config.get("tie_word_embeddings") is True and (
        "lm_head.weight" not in source.tensors
    )


def _check_tensors(source: Checkpoint, tensors: list[Tensor]) -> None:
    """Raise CheckpointError unless the checkpoint holds exactly what the outputs are made of."""
    expected = {tensor.source: tensor.source_shape for tensor in tensors}
    for name, shape in expected.items():
        stored = source.tensors.get(name)
        if stored is None:
            raise CheckpointError(
                source.path,
                f"expected a tensor {name}, got none",
                hint="a shard may be missing; download the checkpoint again",
            )
        if stored.shape != shape:
            raise CheckpointError(
                stored.path, f"expected {name} of shape {shape}, got {stored.shape}"
            )
        if stored.dtype not in SOURCES:
            raise CheckpointError(
                stored.path,
                f"expected {name} as BF16, F16 or F32, got {stored.dtype}",
                hint="use the checkpoint that has not been quantized",
            )
    if unknown := source.tensors.keys() - expected.keys():
        raise CheckpointError(
            source.path, f"expected tensors of Qwen2.5-VL alone, got {min(unknown)} as well"
        )
