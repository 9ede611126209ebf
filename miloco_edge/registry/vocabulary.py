"""Whether the vocabulary of a text GGUF is sound, by the rules of src/llama-vocab.cpp.

llama.cpp asserts that no two tokens are written alike, reads token types without asking for more
than their number, and quietly ignores ids that are out of range.
"""

from __future__ import annotations

from miloco_edge.errors import ModelMismatchError
from miloco_edge.registry.fields import bad, field
from miloco_edge.registry.gguf_header import GGUFHeader, Strings

NEEDED = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
"""Tokens without which there is no chat and no picture."""

_PREFIX = "tokenizer.ggml."
_IDS = (
    "bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask", "fim_pre",
    "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle",
)  # fmt: skip
_FLAGS = (
    "add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix",
    "remove_extra_whitespaces", "normalizer.lowercase", "normalizer.strip_accents",
)  # fmt: skip


def check_vocabulary(header: GGUFHeader) -> int:
    """Check the tokenizer's keys and return the number of tokens.

    Raises ModelMismatchError where the tokenizer is another one than Qwen2's, GGUFError where its
    parts contradict each other.
    """
    for key, expected in (("model", "gpt2"), ("pre", "qwen2")):
        value = field(header, _PREFIX + key, "str")
        if value != expected:
            raise ModelMismatchError(
                header.path, f"{_PREFIX}{key}: expected {expected}, got {value}",
                hint="models with Qwen2's tokenizer are served: MiMo-VL, Miloco, Qwen2.5-VL",
            )  # fmt: skip
    tokens: Strings = field(header, _PREFIX + "tokens", "[str]")
    number = len(tokens)
    _check_texts(header, "tokens", tokens)
    written = set(tokens.raw)
    if len(written) != number or b"" in written:
        raise bad(
            header, f"{_PREFIX}tokens: expected {number} different tokens, got {len(written)}"
        )
    for needed in NEEDED:
        if needed.encode() not in written:
            raise ModelMismatchError(
                header.path, f"expected the token {needed} in the vocabulary, got none",
                hint="use a text model of the Qwen2.5-VL architecture",
            )  # fmt: skip

    types = field(header, _PREFIX + "token_type", "[i32]")
    if len(types) != number or (types < 0).any() or (types > 6).any():
        raise bad(header, f"{_PREFIX}token_type: expected {number} types of 0 to 6")
    if _PREFIX + "scores" in header.types:
        scores = field(header, _PREFIX + "scores", "[f32]")
        if len(scores) != number:
            raise bad(header, f"{_PREFIX}scores: expected {number}, got {len(scores)}")

    merges: Strings = field(header, _PREFIX + "merges", "[str]")
    _check_texts(header, "merges", merges)
    if len(merges) >= number or not all(b" " in merge[1:-1] for merge in merges.raw):
        raise bad(header, f"{_PREFIX}merges: expected fewer than {number} pairs of two parts")

    for name in _IDS:
        key = f"{_PREFIX}{name}_token_id"
        if field(header, key, "u32", 0) >= number:
            raise bad(header, f"{key}: expected below {number}, got {header.metadata[key]}")
    for name in _FLAGS:
        field(header, _PREFIX + name, "bool", None)
    field(header, _PREFIX + "token_type_count", "u32", None)
    suppressed = field(header, _PREFIX + "suppress_tokens", "[i32]", ())
    if any(not 0 <= token < number for token in suppressed):
        raise bad(header, f"{_PREFIX}suppress_tokens: expected ids below {number}")
    field(header, "tokenizer.chat_template", "str", None)
    return number


def _check_texts(header: GGUFHeader, name: str, texts: Strings) -> None:
    try:
        b"\0".join(texts.raw).decode("utf-8")
    except UnicodeDecodeError:
        raise bad(header, f"{_PREFIX}{name}: expected text in UTF-8, got other bytes") from None
