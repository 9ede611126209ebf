"""Whether a text GGUF and an mmproj are sound and belong together, before llama.cpp loads them.

llama.cpp asserts, and so aborts the process, on much of what is refused here. The rules are what
its loader and graphs rely on: src/llama-model.cpp, src/llama-vocab.cpp, src/models/qwen2vl.cpp,
tools/mtmd/clip.cpp, tools/mtmd/models/qwen2vl.cpp. The tensors must be exactly those of the
architecture, with the shapes that the metadata gives them.
"""

from __future__ import annotations

import logging

import numpy as np

from miloco_edge.errors import ModelMismatchError
from miloco_edge.registry.fields import bad, count, field, floats, real
from miloco_edge.registry.ggml_types import NOT_WEIGHTS
from miloco_edge.registry.gguf_header import GGUFHeader
from miloco_edge.registry.vocabulary import check_vocabulary

log = logging.getLogger(__name__)

TEXT_ARCHITECTURE = "qwen2vl"
PROJECTOR = "qwen2.5vl_merger"
PATCH_SIZE, MERGE_SIZE = 14, 2
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS

Shapes = dict[str, tuple[int, ...]]

# Keys that llama.cpp reads for every architecture and that this one must leave at their neutral
# value: anything else changes the graph, and the loader asserts on many combinations.
_NEUTRAL: dict[str, tuple[str, int | bool]] = {
    "expert_count": ("u32", 0),
    "expert_used_count": ("u32", 0),
    "expert_group_count": ("u32", 0),
    "expert_group_used_count": ("u32", 0),
    "nextn_predict_layers": ("u32", 0),
    "pooling_type": ("u32", 0),
    "classifier.pooling_type": ("u32", 0),
    "attention.causal": ("bool", True),
}
_FOREIGN = (
    "embedding_length_out",
    "classifier.output_labels",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "rope.dimension_count_swa",
)


def check_pair(text: GGUFHeader, mmproj: GGUFHeader) -> None:
    """Check both files and that the mmproj's tokens have the width of the text model's.

    Raises ModelMismatchError where a sound file is of another kind or width, GGUFError where a
    file is not sound.
    """
    check_text(text)
    check_mmproj(mmproj)
    width = text.metadata[f"{TEXT_ARCHITECTURE}.embedding_length"]
    projected = mmproj.metadata["clip.vision.projection_dim"]
    if projected != width:
        raise ModelMismatchError(
            mmproj.path,
            f"expected visual tokens of width {width} for {text.path.name}, got {projected}",
            hint="use the mmproj that was published beside this text model",
        )


def check_architecture(header: GGUFHeader) -> None:
    """Check that a file holds a language model of the architecture that is served.

    Raises ModelMismatchError.
    """
    architecture = header.architecture
    if architecture == "clip":
        raise ModelMismatchError(
            header.path, "expected a text model, got an mmproj",
            hint="give the text model's .gguf; the mmproj is found beside it or by --mmproj",
        )  # fmt: skip
    if architecture != TEXT_ARCHITECTURE:
        raise ModelMismatchError(
            header.path, f"expected architecture {TEXT_ARCHITECTURE}, got {architecture}",
            hint="models of the Qwen2.5-VL architecture are served: MiMo-VL, Miloco, Qwen2.5-VL",
        )  # fmt: skip


def check_text(header: GGUFHeader) -> None:
    """Check the language model's file: architecture, hyperparameters, vocabulary, tensors."""
    check_architecture(header)
    if field(header, "split.count", "u16", 0) > 1:
        raise ModelMismatchError(
            header.path, "expected one file, got the first of several parts",
            hint="join the parts with `llama-gguf-split --merge`",
        )  # fmt: skip
    _check_common(header)
    tokens = check_vocabulary(header)
    _check_tensors(header, _text_shapes(header, tokens))


def _text_shapes(header: GGUFHeader, tokens: int) -> Shapes:
    """Check the hyperparameters and return the tensors that they call for."""
    key = f"{TEXT_ARCHITECTURE}.".__add__
    layers = count(header, key("block_count"), high=MAX_LAYERS)
    width = count(header, key("embedding_length"))
    hidden = count(header, key("feed_forward_length"))
    heads = count(header, key("attention.head_count"), high=width)
    kv_heads = count(header, key("attention.head_count_kv"), high=heads, default=heads)
    count(header, key("context_length"), high=1 << 30)
    real(header, key("attention.layer_norm_rms_epsilon"), 0, 0.1)
    if width % heads or heads % kv_heads or (width // heads) % 2:
        raise bad(
            header,
            f"expected head counts that divide the width {width}, got {heads} and {kv_heads}",
        )
    head = width // heads
    for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        if count(header, key(name), default=head) != head:
            raise bad(header, f"{key(name)}: expected {head}, got {header.metadata[key(name)]}")
    _check_rope(header, head)
    for name, (kind, neutral) in _NEUTRAL.items():
        if field(header, key(name), kind, neutral) != neutral:
            raise bad(header, f"{key(name)}: expected {neutral}, got {header.metadata[key(name)]}")
    for name in _FOREIGN:
        if key(name) in header.types:
            raise bad(header, f"expected no key {key(name)} for this architecture, got one")
    if count(header, key("vocab_size"), default=tokens) != tokens:
        raise bad(header, f"{key('vocab_size')}: expected the {tokens} tokens of the vocabulary")

    present = {tensor.name for tensor in header.tensors}
    kv = head * kv_heads
    shapes: Shapes = {"token_embd.weight": (width, tokens), "output_norm.weight": (width,)}
    if "output.weight" in present:
        shapes["output.weight"] = (width, tokens)
    for layer in range(layers):
        block = f"blk.{layer}.".__add__
        projections = {"attn_q": width, "attn_k": kv, "attn_v": kv}
        if block("attn_qkv.weight") in present:
            projections = {"attn_qkv": width + 2 * kv}
        for name, size in projections.items():
            shapes[block(f"{name}.weight")] = (width, size)
            if block(f"{name}.bias") in present:
                shapes[block(f"{name}.bias")] = (size,)
        shapes[block("attn_norm.weight")] = (width,)
        shapes[block("attn_output.weight")] = (width, width)
        shapes[block("ffn_norm.weight")] = (width,)
        shapes[block("ffn_gate.weight")] = (width, hidden)
        shapes[block("ffn_up.weight")] = (width, hidden)
        shapes[block("ffn_down.weight")] = (hidden, width)
    return shapes


def _check_rope(header: GGUFHeader, head: int) -> None:
    key = f"{TEXT_ARCHITECTURE}.rope.".__add__
    real(header, key("freq_base"), 0, 1e12)
    sections = field(header, key("dimension_sections"), "[i32]")
    if len(sections) != 4 or (sections < 0).any() or int(sections.sum(dtype=np.int64)) != head // 2:
        raise bad(
            header,
            f"{key('dimension_sections')}: expected 4 sizes that add up to {head // 2}, "
            f"got {sections[:8].tolist()}",
        )
    kind = field(header, key("scaling.type"), "str", "none")
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise bad(header, f"{key('scaling.type')}: expected a known kind of scaling, got {kind!r}")
    real(header, key("scaling.factor"), 0, 1e6, 1.0)
    real(header, key("scale_linear"), 0, 1e6, 1.0)
    real(header, key("scaling.attn_factor"), 0, 1e6, 1.0)
    count(header, key("scaling.original_context_length"), high=1 << 30, default=1)
    field(header, key("scaling.finetuned"), "bool", False)


def check_mmproj(header: GGUFHeader) -> None:
    """Check the vision encoder's file: projector, hyperparameters, tensors."""
    if header.architecture != "clip":
        raise ModelMismatchError(
            header.path, f"expected an mmproj, got a model of architecture {header.architecture}",
            hint="give the mmproj*.gguf that was published beside the text model",
        )  # fmt: skip
    mixed = field(header, "clip.vision.projector_type", "str", "")
    projector = field(header, "clip.projector_type", "str", "") or mixed
    if projector != PROJECTOR:
        raise ModelMismatchError(
            header.path, f"expected projector {PROJECTOR}, got {projector or 'none'}",
            hint="use the mmproj that was published beside this text model",
        )  # fmt: skip
    if field(header, "clip.has_vision_encoder", "bool", False) is not True:
        raise bad(header, "clip.has_vision_encoder: expected true")
    for encoder in ("clip.has_audio_encoder", "clip.has_gen_audio_encoder"):
        if field(header, encoder, "bool", False):
            raise ModelMismatchError(
                header.path, f"{encoder}: expected a vision encoder alone, got audio too",
                hint="use the mmproj of a Qwen2.5-VL model, not of Qwen2.5-Omni",
            )  # fmt: skip
    if not field(header, "clip.use_silu", "bool", False) or field(
        header, "clip.use_gelu", "bool", False
    ):
        raise bad(header, "expected clip.use_silu true and clip.use_gelu false or absent")
    _check_common(header)
    _check_picture_format(header)
    _check_tensors(header, _vision_shapes(header))


def _check_picture_format(header: GGUFHeader) -> None:
    """Patch size, merge and normalization: the model knows pictures in this form alone."""
    for name, expected, default in (("patch_size", PATCH_SIZE, 0), ("spatial_merge_size", 2, 2)):
        value = field(header, f"clip.vision.{name}", "u32", default)
        if value != expected:
            raise bad(header, f"clip.vision.{name}: expected {expected}, got {value or 'none'}")
    for name, constants in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
        values = floats(header, f"clip.vision.{name}", 3)
        if not np.allclose(values, constants, atol=1e-4):
            raise bad(
                header, f"clip.vision.{name}: expected {list(constants)}, got {values.tolist()}"
            )
    count(header, "clip.vision.image_size", high=8192)
    count(header, "clip.vision.n_wa_pattern", high=MAX_LAYERS)
    epsilon = real(header, "clip.vision.attention.layer_norm_epsilon", 0, 0.1)
    if not 0.9e-6 < epsilon < 1.1e-6:
        log.warning(
            "%s: expected a norm epsilon of 1e-6 as in Qwen2.5-VL's vision encoder, got %g "
            "(some converters write the text model's)",
            header.path.name, epsilon,
        )  # fmt: skip
    for name, kind in (
        ("clip.vision.mm_patch_merge_type", "str"),
        ("clip.minicpmv_version", "i32"),
        ("clip.minicpmv_query_num", "u32"),
    ):
        field(header, name, kind, None)
    for name in ("feature_layer", "image_grid_pinpoints", "wa_layer_indexes"):
        if f"clip.vision.{name}" in header.types:
            raise bad(header, f"expected no key clip.vision.{name} for this projector, got one")


def _vision_shapes(header: GGUFHeader) -> Shapes:
    """Check the encoder's sizes and return the tensors that they call for."""
    key = "clip.vision.".__add__
    layers = count(header, key("block_count"), high=MAX_LAYERS)
    width = count(header, key("embedding_length"), high=1 << 16)
    heads = count(header, key("attention.head_count"), high=width)
    projected = count(header, key("projection_dim"))
    hidden = count(header, key("feed_forward_length"), low=0)
    if width % heads or (width // heads) % 4:
        raise bad(header, f"{key('attention.head_count')}: expected to divide {width}, got {heads}")
    for name, expected in (("attention.head_dim", width // heads),
                           ("attention.head_count_kv", heads)):  # fmt: skip
        if count(header, key(name), default=expected) != expected:
            raise bad(header, f"{key(name)}: expected {expected}, got {header.metadata[key(name)]}")

    by_name = {tensor.name: tensor.shape for tensor in header.tensors}
    merged = width * MERGE_SIZE * MERGE_SIZE
    patch = (PATCH_SIZE, PATCH_SIZE, 3, width)
    shapes: Shapes = {
        "v.patch_embd.weight": patch, "v.patch_embd.weight.1": patch, "v.post_ln.weight": (width,),
        "mm.0.weight": (merged, merged), "mm.0.bias": (merged,),
        "mm.2.weight": (merged, projected), "mm.2.bias": (projected,),
    }  # fmt: skip
    for layer in range(layers):
        block = f"v.blk.{layer}.".__add__
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes[block(f"{name}.weight")] = (width, width)
            shapes[block(f"{name}.bias")] = (width,)
        shapes[block("ln1.weight")] = shapes[block("ln2.weight")] = (width,)
        inner = by_name.get(block("ffn_gate.weight"), (width, hidden))[-1]
        if hidden not in (0, inner):
            raise bad(header, f"{key('feed_forward_length')}: expected {inner}, got {hidden}")
        if inner == width:  # clip.cpp could not tell up from down, and swaps them
            raise bad(header, f"expected a feed-forward length other than the width {width}")
        # Files of early converters call up down and down up; clip.cpp swaps them back.
        swapped = by_name.get(block("ffn_down.weight")) == (width, inner)
        up, down = ("ffn_down", "ffn_up") if swapped else ("ffn_up", "ffn_down")
        for name, rows, columns in (
            ("ffn_gate", inner, width), (up, inner, width), (down, width, inner),
        ):  # fmt: skip
            shapes[block(f"{name}.weight")] = (columns, rows)
            shapes[block(f"{name}.bias")] = (rows,)
    return shapes


def _check_common(header: GGUFHeader) -> None:
    """Keys that both loaders read in every file."""
    for key, kind in (
        ("general.name", "str"),
        ("general.description", "str"),
        ("general.file_type", "u32"),
        ("general.quantization_version", "u32"),
    ):
        field(header, key, kind, None)
    if "general.tensor_extra.name" in header.types:
        raise bad(header, "expected no key general.tensor_extra.name, got one")


def _check_tensors(header: GGUFHeader, shapes: Shapes) -> None:
    """Check that the tensors are exactly `shapes`, and of types that ggml has kernels for.

    Vectors are F32, convolutions F32 or F16, matrices any type of weights.
    """
    present = {tensor.name: tensor for tensor in header.tensors}
    missing, foreign = shapes.keys() - present.keys(), present.keys() - shapes.keys()
    if missing:
        raise bad(header, f"expected the tensor {min(missing)}, got none ({len(missing)} missing)")
    if foreign:
        raise bad(
            header, f"expected no tensor {min(foreign)} in this architecture "
            f"({len(foreign)} unexpected)",
        )  # fmt: skip
    for name, shape in shapes.items():
        tensor = present[name]
        if tensor.shape != shape:
            raise bad(header, f"{name}: expected shape {shape}, got {tensor.shape}")
        if len(shape) == 1:
            allowed = tensor.type == "F32"
        elif len(shape) == 4:
            allowed = tensor.type in ("F32", "F16")
        else:
            allowed = tensor.type not in NOT_WEIGHTS
        if not allowed:
            raise bad(header, f"{name}: expected a type with a kernel for it, got {tensor.type}")
