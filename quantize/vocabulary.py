"""The tokenizer as a GGUF carries it: tokens, their kinds, merges, special ids, chat template.

Follows the reference converter (llama.cpp, conversion/base.py, gguf-py's vocab.py) in what it
derives from tokenizer.json, tokenizer_config.json and config.json, and in which order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from quantize.checkpoint import Checkpoint, read_json, read_json_if_any
from quantize.errors import CheckpointError

QWEN2_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 cuts text before merging; llama.cpp has it under the name `qwen2`."""

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


class Kind(IntEnum):
    """llama.cpp's token types."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True)
class Vocabulary:
    """Everything of the tokenizer that goes into the text file."""

    tokens: list[str]
    """By id; an id that no token has is `[PAD<id>]`."""
    kinds: list[int]
    merges: list[str]
    """Two parts and a space between; a space inside a part is U+0120."""
    special_ids: dict[str, int]
    """By role (`eos`, `pad`, ...), in the order in which the converter writes them."""
    add_special: dict[str, bool]
    """Whether to add the `bos` or `eos` token by itself."""
    chat_template: str | list[dict[str, str]] | None


def read_vocabulary(checkpoint: Checkpoint, size: int) -> Vocabulary:
    """Read the tokenizer of `checkpoint` as a vocabulary of `size` tokens.

    Raises NotFoundError where tokenizer.json is missing, CheckpointError where it is no byte-level
    BPE with Qwen2's pre-tokenizer or holds an id out of range.
    """
    path = checkpoint.path / "tokenizer.json"
    tokenizer = read_json(path)
    settings = read_json_if_any(checkpoint.path / "tokenizer_config.json")
    try:
        return _vocabulary(checkpoint, tokenizer, settings, size)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(
            path, f"expected a tokenizer of the tokenizers library, got {error!r:.80}"
        ) from error


def _vocabulary(
    checkpoint: Checkpoint, tokenizer: dict[str, Any], settings: dict[str, Any], size: int
) -> Vocabulary:
    path = checkpoint.path / "tokenizer.json"
    model = tokenizer["model"]
    if model["type"] != "BPE" or _regex(tokenizer) != QWEN2_REGEX:
        raise CheckpointError(
            path,
            f"expected BPE with Qwen2's pre-tokenizer, got {model['type']} with "
            f"{_regex(tokenizer)!r:.80}",
            hint="llama.cpp would cut the text differently from what the model was trained on",
        )
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    special = {token["content"]: token["special"] for token in tokenizer.get("added_tokens", [])}
    for id, token in settings.get("added_tokens_decoder", {}).items():
        added.setdefault(token["content"], int(id))
        special[token["content"]] = token["special"]

    tokens = [f"[PAD{id}]" for id in range(size)]
    kinds = [int(Kind.UNUSED)] * size
    for token, id in (model["vocab"] | added).items():
        if type(id) is not int or not 0 <= id < size:
            raise CheckpointError(
                path, f"expected ids from 0 to {size - 1}, got {id!r} ({token!r})"
            )
        tokens[id] = token
        kinds[id] = Kind.NORMAL if token not in added else _added_kind(token, special[token])
    add_special = _added_by_itself(tokenizer, settings)
    return Vocabulary(
        tokens=tokens,
        kinds=kinds,
        merges=[merge if isinstance(merge, str) else _joined(merge) for merge in model["merges"]],
        special_ids=_special_ids(checkpoint, tokenizer, settings),
        add_special=add_special,
        chat_template=_chat_template(checkpoint.path, settings),
    )


def _regex(tokenizer: dict[str, Any]) -> str | None:
    outer = tokenizer["pre_tokenizer"]
    for step in outer.get("pretokenizers", [outer]):
        if step["type"] == "Split":
            regex: str = step["pattern"]["Regex"]
            return regex
    return None


def _added_kind(token: str, special: bool) -> Kind:
    """Tell control tokens; the hub marks some of them, like `<|fim_pad|>`, as not special."""
    looks_special = token.startswith("<|") and token.endswith("|>")
    return Kind.CONTROL if special or looks_special else Kind.USER_DEFINED


def _joined(pair: list[str]) -> str:
    left, right = (part.replace(" ", "\u0120") for part in pair)
    return f"{left} {right}"


def _added_by_itself(tokenizer: dict[str, Any], settings: dict[str, Any]) -> dict[str, bool]:
    post = tokenizer.get("post_processor") or {}
    byte_level = any(step["type"] == "ByteLevel" for step in post.get("processors", [post]) if step)
    add = {"bos": False, "eos": False} if byte_level else {}
    for role in _ROLES:
        if isinstance(wanted := settings.get(f"add_{role}_token"), bool):
            add.setdefault(role, wanted)
    return add


def _special_ids(
    checkpoint: Checkpoint, tokenizer: dict[str, Any], settings: dict[str, Any]
) -> dict[str, int]:
    ids: dict[str, int] = {}
    listed = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    for role in _ROLES:
        entry = settings.get(f"{role}_token")
        content = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(content, str) and content in listed:
            ids[role] = listed[content]
    text = checkpoint.config.get("text_config", {})
    for role in _ROLES:
        id = checkpoint.config.get(f"{role}_token_id")
        id = text.get(f"{role}_token_id") if id is None else id
        if type(id) is int:
            ids.setdefault(role, id)
    return ids


def _chat_template(path: Path, settings: dict[str, Any]) -> str | list[dict[str, str]] | None:
    if "chat_template" in settings:
        template: str | list[dict[str, str]] | None = settings["chat_template"]
    elif (path / "chat_template.jinja").is_file():
        template = (path / "chat_template.jinja").read_text(encoding="utf-8")
    else:
        template = read_json_if_any(path / "chat_template.json").get("chat_template")
    if not isinstance(template, str | list | None):
        raise CheckpointError(path, f"expected a text as chat_template, got {template!r:.40}")
    return template
