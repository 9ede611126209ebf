"""Tools in the form that Qwen's models were trained on.

The system prompt lists them as JSON lines in <tools>; the model answers with <tool_call> objects
and is given results in <tool_response> (Qwen2.5's chat template, tokenizer_config.json).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"

_BEFORE = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
"""
_AFTER = """
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of its arguments."""


@dataclass(frozen=True)
class Call:
    """A function that the model wants called."""

    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        """The arguments as OpenAI has them: a string."""
        return json.dumps(self.arguments, ensure_ascii=False)


def tools_text(tools: Sequence[Tool]) -> str:
    """What the system prompt says of the tools."""
    lines = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
        lines.append(json.dumps({"type": "function", "function": function}, ensure_ascii=False))
    return _BEFORE + "\n".join(lines) + _AFTER


def call_text(call: Call) -> str:
    """A call as the model wrote it."""
    said = {"name": call.name, "arguments": call.arguments}
    return f"{OPEN}\n{json.dumps(said, ensure_ascii=False)}\n{CLOSE}"


def result_text(text: str) -> str:
    """What a function gave back, as the model is told."""
    return f"<tool_response>\n{text}\n</tool_response>"


class CallReader:
    """Tells words from calls in what the model says, as it says it."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> tuple[str, list[Call]]:
        """Take the next text; return the words and calls that are whole by now."""
        self._held += text
        words = ""
        calls: list[Call] = []
        while (at := self._held.find(OPEN)) >= 0:
            end = self._held.find(CLOSE, at)
            if end < 0:
                words, self._held = words + self._held[:at], self._held[at:]
                return words, calls
            inside = self._held[at + len(OPEN) : end]
            words += self._held[:at]
            self._held = self._held[end + len(CLOSE) :].lstrip("\n")
            if (call := _call(inside)) is not None:
                calls.append(call)
            else:
                words += f"{OPEN}{inside}{CLOSE}"
        kept = next(
            (n for n in range(min(len(OPEN) - 1, len(self._held)), 0, -1)
             if OPEN.startswith(self._held[-n:])), 0,
        )  # fmt: skip
        certain = len(self._held) - kept
        words, self._held = words + self._held[:certain], self._held[certain:]
        return words, calls

    def finish(self) -> tuple[str, list[Call]]:
        """End of text: a call that only lacks its end counts, anything else was words."""
        held, self._held = self._held, ""
        if held.startswith(OPEN) and (call := _call(held[len(OPEN) :])) is not None:
            return "", [call]
        return held, []


def _call(text: str) -> Call | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("name"), str):
        return None
    arguments = said.get("arguments", said.get("parameters", {}))
    return Call(said["name"], arguments) if isinstance(arguments, dict) else None
