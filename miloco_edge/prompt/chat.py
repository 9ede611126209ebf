"""ChatML as MiMo-VL was trained on it, cut where the media go in.

A prompt is an opening (system turn and the head of the user turn), the media, and a question:

    <|im_start|>system\\n SYSTEM <|im_end|>\\n<|im_start|>user\\n   opening, prefilled once a model
    <|vision_start|> visual tokens <|vision_end|>                  media, prefilled once a scene
    QUESTION /no_think<|im_end|>\\n<|im_start|>assistant\\n          question, the only new part

Media come first because the model was trained so, and because /no_think counts only as the very
last characters of the user turn (MiMo-VL-7B-RL-2508's model card; MiMo-VL#32).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MIMO_SYSTEM = "You are MiMo, an AI assistant developed by Xiaomi."
NO_THINK = "/no_think"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
END_OF_TURN = "<|im_end|>"
EMPTY_THINK = "<think>\n\n</think>\n\n"
CLOSE_THINK = "\n</think>\n"

Language = Literal["en", "zh"]

# The smart-home mode in our own words: one JSON object, one key, so a hub can parse it.
SMART_HOME = {
    "en": (
        "You watch a home through its cameras and report to the home's control system. "
        'Answer with one JSON object and nothing else: {"result": ANSWER}. '
        'To a yes-or-no question ANSWER is exactly "yes" or "no"; '
        "to any other question it is one short sentence about what can be seen."
    ),
    "zh": (
        "你通过摄像头观察家庭环境，并向家庭控制系统汇报。"
        '只输出一个 JSON 对象：{"result": 回答}，不要输出其他内容。'
        "对于是非问题，回答只能是“是”或“否”；对于其他问题，用一句简短的话说明画面中看到的内容。"
    ),
}
# What the smart-home mode promises, held to by the sampler. GBNF (llama.cpp, grammars/README.md).
SMART_HOME_GRAMMAR = r"""
root ::= "{\"result\": \"" char{1,400} "\"}"
char ::= [^"\\\x00-\x1F] | "\\" ["\\/bfnrt]
"""
DESCRIBE = {"en": "Describe what happens in one sentence.", "zh": "用一句话描述画面中发生的事情。"}


@dataclass(frozen=True)
class Text:
    """A piece of prompt. Only the template's own pieces may become special tokens."""

    text: str
    special: bool = False


@dataclass(frozen=True)
class Turn:
    """An earlier question about the same media and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class ChatFacts:
    """What a model's chat template says of it."""

    system: str
    thinks: bool
    """Whether the model knows <think> and /no_think (plain Qwen2.5-VL does not)."""


def chat_facts(template: str | None) -> ChatFacts:
    """Read the default system prompt and the thinking habit off a Jinja chat template.

    Without a template the model is taken for MiMo-VL.
    """
    if template is None:
        return ChatFacts(MIMO_SYSTEM, thinks=True)
    match = re.search(r"<\|im_start\|>system(?:\\n|\n)([^{}<]+?)<\|im_end\|>", template)
    system = match.group(1).strip() if match else MIMO_SYSTEM
    return ChatFacts(system, thinks="think" in template or "MiMo" in template)


def opening(system: str) -> list[Text]:
    """The prompt up to where the media begin."""
    return [
        Text("<|im_start|>system\n", special=True),
        Text(system),
        Text("<|im_end|>\n<|im_start|>user\n", special=True),
    ]


def question(text: str, *, history: Sequence[Turn], think: bool, facts: ChatFacts) -> list[Text]:
    """The prompt from the end of the media to where the model begins to speak.

    A conversation's earlier turns come first, since the media belong to its first user turn.
    """
    pieces: list[Text] = []
    for turn in history:
        pieces += [
            Text(_user_text(turn.question, think=think, facts=facts)),
            Text("<|im_end|>\n<|im_start|>assistant\n", special=True),
            Text(turn.answer),
            Text("<|im_end|>\n<|im_start|>user\n", special=True),
        ]
    pieces += [
        Text(_user_text(text, think=think, facts=facts)),
        Text("<|im_end|>\n<|im_start|>assistant\n", special=True),
    ]
    return pieces


def _user_text(text: str, *, think: bool, facts: ChatFacts) -> str:
    """The user's words with /no_think last, or nowhere, whatever the caller wrote."""
    if not facts.thinks:
        return text.strip()
    bare = re.sub(r"\s*/no_think\b", "", text).strip()
    return bare if think else f"{bare} {NO_THINK}"
