"""The keys of the two files, as the reference converter writes them.

They stand in llama-quantize's order: general.quantization_version and general.file_type last.
gguf-py knows the keys' names and types and derives the general.* ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from quantize.checkpoint import Checkpoint, read_json, read_json_if_any
from quantize.dimensions import TextDimensions, VisionDimensions
from quantize.errors import CheckpointError
from quantize.guide import Guide
from quantize.names import Tensor
from quantize.vocabulary import Vocabulary

VIT_NORM_EPS = 1e-6
"""transformers' Qwen2.5-VL vision tower has it in its code, not in its configuration."""
DEFAULT_IMAGE_SIZE = 560

GENERATION_CONFIG = "generation_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"


@dataclass(frozen=True)
class Fields:
    """Keys of a GGUF file with gguf-py's typed values, in order."""

    values: dict[str, Any]
    source: Path
    """The checkpoint that they were derived from."""


def text_fields(
    checkpoint: Checkpoint,
    sizes: TextDimensions,
    tensors: Sequence[Tensor],
    vocabulary: Vocabulary,
    file_type: int,
    guide: Guide | None = None,
) -> Fields:
    """Return the keys of the text file (architecture qwen2vl)."""
    config = checkpoint.text_config
    writer = _begin(checkpoint, "qwen2vl", gguf.GGUFType.MODEL, tensors)
    writer.add_block_count(sizes.layers)
    writer.add_context_length(_number(checkpoint, config, "max_position_embeddings"))
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.ffn)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    rope = rope if isinstance(rope, dict) else {}
    writer.add_rope_dimension_sections(_mrope_sections(checkpoint, rope, sizes.head_dim))
    writer.add_rope_freq_base(_number(checkpoint, config | rope, "rope_theta"))
    writer.add_layer_norm_rms_eps(_number(checkpoint, config, "rms_norm_eps"))
    if config.get("head_dim") is not None:
        writer.add_key_length(sizes.head_dim)
        writer.add_value_length(sizes.head_dim)

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    for role, id in vocabulary.special_ids.items():
        if add_id := getattr(writer, f"add_{role}_token_id", None):  # there is none for cls
            add_id(id)
    for role, add in vocabulary.add_special.items():
        if add_flag := getattr(writer, f"add_add_{role}_token", None):
            add_flag(add)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)
    return _end(checkpoint, writer, file_type, guide)


def mmproj_fields(
    checkpoint: Checkpoint,
    sizes: VisionDimensions,
    tensors: Sequence[Tensor],
    file_type: int,
    guide: Guide | None = None,
) -> Fields:
    """Return the keys of the mmproj (projector qwen2.5vl_merger)."""
    preprocessor = preprocessor_config(checkpoint.path)
    writer = _begin(checkpoint, "clip", gguf.GGUFType.MMPROJ, tensors)
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(sizes.projection)
    writer.add_vision_image_size(checkpoint.vision_config.get("image_size", DEFAULT_IMAGE_SIZE))
    writer.add_vision_patch_size(sizes.patch)
    writer.add_vision_embedding_length(sizes.hidden)
    writer.add_vision_feed_forward_length(sizes.padded_ffn)
    writer.add_vision_block_count(sizes.layers)
    writer.add_vision_head_count(sizes.heads)
    for name, add in (
        ("image_mean", writer.add_vision_image_mean),
        ("image_std", writer.add_vision_image_std),
    ):
        match preprocessor.get(name):
            case [int() | float(), int() | float(), int() | float()] as values:
                add([float(value) for value in values])
            case other:
                raise CheckpointError(
                    checkpoint.path / PREPROCESSOR_CONFIG,
                    f"expected three numbers as {name}, got {other!r:.40}",
                )
    writer.add_clip_projector_type("qwen2.5vl_merger")
    writer.add_vision_use_silu(True)
    writer.add_vision_n_wa_pattern(sizes.window_pattern)
    writer.add_vision_attention_layernorm_eps(VIT_NORM_EPS)
    return _end(checkpoint, writer, file_type, guide)


def preprocessor_config(path: Path) -> dict[str, Any]:
    """Return the image processor's settings, wherever the checkpoint keeps them."""
    processor = read_json_if_any(path / "processor_config.json")
    inner = processor.get("image_processor")
    inner = inner if isinstance(inner, dict) else {}
    if not (path / PREPROCESSOR_CONFIG).is_file() and not processor:
        read_json(path / PREPROCESSOR_CONFIG)  # says what is missing
    return read_json_if_any(path / PREPROCESSOR_CONFIG) | processor | inner


def _begin(
    checkpoint: Checkpoint, architecture: str, kind: str, tensors: Sequence[Tensor]
) -> gguf.GGUFWriter:
    """Return a writer, used to collect keys alone, that holds the general.* ones."""
    generation = read_json_if_any(checkpoint.path / GENERATION_CONFIG)
    writer = gguf.GGUFWriter(None, architecture)
    writer.add_type(kind)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.unpadded, None, 0, gguf.GGMLQuantizationType.F32)
    total, *rest = writer.get_total_parameter_count()
    metadata = gguf.Metadata()
    for theirs, ours in _SAMPLING:
        setting = generation.get(theirs, getattr(metadata, f"sampling_{ours}"))
        setattr(metadata, f"sampling_{ours}", setting)
    try:  # what people write into model cards is theirs to decide
        card = gguf.Metadata.load_model_card(checkpoint.path)
        metadata = gguf.Metadata.apply_metadata_heuristic(
            metadata, card, checkpoint.config, Path(checkpoint.name), total
        )
        metadata.name = metadata.name or checkpoint.name
        metadata.size_label = metadata.size_label or gguf.size_label(total, *rest)
        metadata.set_gguf_meta_model(writer)
    except Exception as error:
        raise CheckpointError(
            checkpoint.path / "README.md",
            f"expected a model card that gguf-py can read, got {error!r:.120}",
            hint="correct or remove the lines between the two --- at its top",
        ) from error
    return writer


# generation_config's names to gguf-py's; a later one wins.
_SAMPLING = (
    ("sequence", "sequence"), ("top_k", "top_k"), ("top_p", "top_p"), ("min_p", "min_p"),
    ("xtc_probability", "xtc_probability"), ("xtc_threshold", "xtc_threshold"),
    ("temperature", "temp"), ("penalty_last_n", "penalty_last_n"),
    ("repetition_penalty", "penalty_repeat"), ("penalty_repeat", "penalty_repeat"),
    ("mirostat", "mirostat"), ("mirostat_tau", "mirostat_tau"), ("mirostat_eta", "mirostat_eta"),
)  # fmt: skip


def _end(
    checkpoint: Checkpoint, writer: gguf.GGUFWriter, file_type: int, guide: Guide | None
) -> Fields:
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(file_type)
    if guide is not None:  # as llama-quantize writes it (tools/quantize/quantize.cpp)
        imatrix = guide.imatrix
        writer.add_string("quantize.imatrix.file", _cut(str(guide.path)))
        if imatrix.datasets:
            writer.add_string("quantize.imatrix.dataset", _cut(imatrix.datasets[0]))
        writer.add_uint32("quantize.imatrix.entries_count", len(imatrix.entries))
        if imatrix.chunk_count > 0:
            writer.add_uint32("quantize.imatrix.chunks_count", imatrix.chunk_count)
    return Fields(writer.kv_data[0], checkpoint.path)


def _cut(text: str) -> str:
    """At most 127 bytes, as llama-quantize's; a character is not cut in two."""
    return text.encode(errors="replace")[:127].decode(errors="ignore")


def _mrope_sections(checkpoint: Checkpoint, rope: dict[str, Any], head_dim: int) -> list[int]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    match kind, rope.get("mrope_section"):
        case "default" | "mrope", [int(time), int(height), int(width)] as sections if (
            min(sections) >= 0 and time + height + width == head_dim // 2
        ):
            return [time, height, width, 0]
        case _, sections:
            raise CheckpointError(
                checkpoint.path / "config.json",
                f"expected M-RoPE with three sections that sum up to {head_dim // 2}, "
                f"got {kind!r:.20} with {sections!r:.40}",
            )


def _number(checkpoint: Checkpoint, config: dict[str, Any], name: str) -> Any:
    value: Any = config.get(name)
    if type(value) is not int and not (type(value) is float and math.isfinite(value)):
        raise CheckpointError(
            checkpoint.path / "config.json", f"expected a number as {name}, got {value!r:.40}"
        )
    return value
