"""A small vocabulary of Qwen2's kind for a model that says nothing of sense."""

from __future__ import annotations

# Qwen2.5's added tokens (tokenizer.json of Qwen/Qwen2.5-VL-7B-Instruct) that prompts spell.
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
NORMAL, CONTROL, UNUSED = 1, 3, 5  # llama_token_type

# What bench asks, so that its prompts have about as many tokens as with the real vocabulary.
WORDS = (
    "yes no Yes No the a is in of and on at to are was someone Someone person people room camera "
    "video image picture what What who where when how does Does do Do doing condition following "
    "meet holds true think system user assistant answer Answer question result reading television "
    "watching standing sitting walking lying floor man woman child baby dog cat door window light "
    "lamp open dark red green blue white black hello you You are MiMo an AI developed by Xiaomi"
)

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n"
    "You are MiMo, an AI assistant developed by Xiaomi.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary(size: int) -> tuple[list[str], list[int], list[str]]:
    """`size` tokens, their types, and the merges that make them.

    Bytes, WORDS with and without a space before them, added tokens, and unused ones up to `size`.
    Raises ValueError where they do not fit.
    """
    alphabet = _byte_alphabet()
    space = alphabet[ord(" ")]
    tokens, merges = dict.fromkeys(alphabet), dict[str, None]()
    for word in WORDS.split():
        for end in range(1, len(word)):
            merges.setdefault(f"{word[:end]} {word[end]}")
            tokens.setdefault(word[: end + 1])
        merges.setdefault(f"{space} {word}")
        tokens.setdefault(space + word)
    spoken = [*tokens, *SPECIAL]
    if len(spoken) > size:
        raise ValueError(f"expected a vocabulary of at least {len(spoken)} tokens, got {size}")
    unused = [f"[PAD{i}]" for i in range(len(spoken), size)]
    kinds = [NORMAL] * len(tokens) + [CONTROL] * len(SPECIAL) + [UNUSED] * len(unused)
    return spoken + unused, kinds, list(merges)


def _byte_alphabet() -> list[str]:
    """GPT-2's 256 printable stand-ins for bytes (openai/gpt-2, src/encoder.py)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
