"""The tokenizer of a synthetic checkpoint: Qwen2's cut, Qwen2.5's special tokens, any words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

ChatTemplateWhere = Literal["tokenizer_config", "jinja", "json", "nowhere"]

# https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct, tokenizer.json; True: marked special there.
SPECIAL_TOKENS = {
    "<|endoftext|>": True, "<|im_start|>": True, "<|im_end|>": True,
    "<|object_ref_start|>": True, "<|object_ref_end|>": True, "<|box_start|>": True,
    "<|box_end|>": True, "<|quad_start|>": True, "<|quad_end|>": True, "<|vision_start|>": True,
    "<|vision_end|>": True, "<|vision_pad|>": True, "<|image_pad|>": True, "<|video_pad|>": True,
    "<tool_call>": False, "</tool_call>": False, "<|fim_prefix|>": False, "<|fim_middle|>": False,
    "<|fim_suffix|>": False, "<|fim_pad|>": False, "<|repo_name|>": False, "<|file_sep|>": False,
}  # fmt: skip

QWEN2_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

WORDS = (
    "yes no Yes No the a is in of and on at to are was person people room camera video image "
    "picture what who where when how think system user assistant answer question reading "
    "television standing sitting walking man woman child baby dog cat door window light dark red "
    "green blue white black hello you MiMo an AI developed by Xiaomi result true false unknown"
)

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n"
    "You are MiMo, an AI assistant developed by Xiaomi.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif item['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in item %}{{ item['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_alphabet() -> list[str]:
    """Return GPT-2's 256 printable stand-ins for bytes, indexed by byte.

    Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py, `bytes_to_unicode`.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def built_in_vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Return tokens and merges for bytes and WORDS, each alone and after a space."""
    alphabet = byte_alphabet()
    tokens = dict.fromkeys(alphabet)
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS.split():
        for end in range(1, len(word)):
            merges.setdefault((word[:end], word[end]))
            tokens.setdefault(word[: end + 1])
        merges.setdefault((alphabet[ord(" ")], word))
        tokens.setdefault(alphabet[ord(" ")] + word)
    return list(tokens), list(merges)


def gguf_vocabulary(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the base tokens (those before the first added one) and merges of a GGUF file."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    base = next((i for i, kind in enumerate(types) if kind != 1), len(types))
    pairs = (merge.split(" ") for merge in fields["tokenizer.ggml.merges"].contents())
    return tokens[:base], [(left, right) for left, right in pairs]


def tokenizer(
    tokens: list[str], merges: list[tuple[str, str]], special: dict[str, int], as_pairs: bool
) -> dict[str, Any]:
    """Return tokenizer.json."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    byte_level["use_regex"] = False
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id, "content": token, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": SPECIAL_TOKENS[token],
            }
            for token, id in special.items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split", "pattern": {"Regex": QWEN2_REGEX}, "behavior": "Isolated",
                    "invert": False,
                },
                byte_level,
            ],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [list(pair) if as_pairs else " ".join(pair) for pair in merges],
        },
    }  # fmt: skip


def write_tokenizer_config(out: Path, special: dict[str, int], where: ChatTemplateWhere) -> None:
    """Write tokenizer_config.json, and the chat template there or in a file of its own."""
    config: dict[str, Any] = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "model_max_length": 131072,
        "added_tokens_decoder": {
            str(id): {
                "content": token, "lstrip": False, "normalized": False, "rstrip": False,
                "single_word": False, "special": SPECIAL_TOKENS[token],
            }
            for token, id in special.items()
        },
    }  # fmt: skip
    match where:
        case "tokenizer_config":
            config["chat_template"] = CHAT_TEMPLATE
        case "jinja":
            (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
        case "json":
            write_json(out / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
        case "nowhere":
            pass
    write_json(out / "tokenizer_config.json", config)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
