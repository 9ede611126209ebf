"""Answers as OpenAI's clients read them, whole and in chunks, with llama-server's timings."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from miloco_edge import Piece
from miloco_edge.serve.tools import Call, CallReader
from miloco_edge.types import Answer, Layout, Timings, TokenLogprob, Usage

_ENDS = ("<|im_end|>", "<|endoftext|>")


@dataclass
class Collected:
    """What has come of an answer, told apart into thinking, words and calls."""

    may_call: bool = False
    parallel: bool = True
    content: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = CallReader()

    def take(self, piece: Piece) -> dict[str, Any]:
        """The delta that a piece is; empty where nothing is certain yet."""
        if piece.thinking:
            self.reasoning += piece.text
            return {"reasoning_content": piece.text}
        if not self.may_call:
            return self._told(piece.text, [])
        return self._told(*self._reader.feed(piece.text))

    def end(self, answer: Answer) -> dict[str, Any]:
        """The delta of what is left when the answer is whole."""
        delta = self._told(*self._reader.finish()) if self.may_call else {}
        if not self.content and not self.calls and answer.text:
            # It was allowed to think, opened no thought, and all of it was the answer.
            self.reasoning = answer.thinking or ""
            whole = CallReader()
            if self.may_call:
                words, calls = whole.feed(answer.text)
                more, last = whole.finish()
                delta = self._told(words + more, calls + last)
            else:
                delta = self._told(answer.text, [])
        return delta

    def _told(self, words: str, calls: list[Call]) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if words and (words.strip() or self.content):
            self.content += words
            delta["content"] = words
        if not self.parallel:
            calls = calls[: 1 - len(self.calls)]
        if calls:
            first = len(self.calls)
            self.calls += calls
            delta["tool_calls"] = [
                {"index": first + i, **call_document(call)} for i, call in enumerate(calls)
            ]
        return delta

    def finish_reason(self, answer: Answer) -> str:
        """Why it ended, in OpenAI's words."""
        if self.calls:
            return "tool_calls"
        return "stop" if answer.finish_reason == "stop" else "length"


def call_document(call: Call) -> dict[str, Any]:
    """A call as OpenAI has it."""
    return {
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }


@dataclass(frozen=True)
class Reply:
    """One completion under way: what its chunks and its whole have in common."""

    model: str
    layout: Layout = "images"
    wants_logprobs: bool = False
    top_logprobs: int = 0
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(16)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, collected: Collected, answer: Answer) -> dict[str, Any]:
        """The completion."""
        message: dict[str, Any] = {"role": "assistant", "content": collected.content or None}
        if not collected.calls:
            message["content"] = collected.content
        if collected.reasoning.strip():
            message["reasoning_content"] = collected.reasoning.strip()
        if collected.calls:
            message["tool_calls"] = [call_document(call) for call in collected.calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs(answer),
            "finish_reason": collected.finish_reason(answer),
        }
        return {**self._head("chat.completion", [choice]), **self._cost(answer)}

    def chunk(
        self, delta: dict[str, Any], finish: str | None = None, answer: Answer | None = None
    ) -> dict[str, Any]:
        """One chunk of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        if answer is not None:
            choice["logprobs"] = self._logprobs(answer)
        chunk = self._head("chat.completion.chunk", [choice])
        return chunk if answer is None else {**chunk, "timings": timings(answer)}

    def usage_chunk(self, answer: Answer) -> dict[str, Any]:
        """The last chunk, where the client asked for usage."""
        return {**self._head("chat.completion.chunk", []), **self._cost(answer)}

    def _head(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
            "choices": choices,
        }

    def _cost(self, answer: Answer) -> dict[str, Any]:
        return {"usage": usage(answer.usage, self.layout), "timings": timings(answer)}

    def _logprobs(self, answer: Answer) -> dict[str, Any] | None:
        if not self.wants_logprobs or answer.logprobs is None:
            return None
        tokens = list(answer.logprobs)
        if tokens and tokens[-1].token in _ENDS:
            tokens.pop()
        return {"content": [self._logprob(token) for token in tokens], "refusal": None}

    def _logprob(self, token: TokenLogprob) -> dict[str, Any]:
        top = token.top[: self.top_logprobs]
        return {**_token(token.token, token.logprob), "top_logprobs": [
            _token(each.token, each.logprob) for each in top
        ]}  # fmt: skip


def usage(used: Usage, layout: Layout) -> dict[str, Any]:
    """Tokens, with OpenAI's and MiMo's details."""
    video = used.visual_tokens if layout == "video" else 0
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": used.cached_tokens,
            "audio_tokens": 0,
            "video_tokens": video,
            "image_tokens": used.visual_tokens - video,
        },
        "completion_tokens_details": {"reasoning_tokens": used.thinking_tokens},
    }


def prompt_s(times: Timings) -> float:
    """Seconds from the media and words that were sent to the first token."""
    return sum(filter(None, (times.video_s, times.vision_s, times.prefill_s)))


def timings(answer: Answer) -> dict[str, Any]:
    """llama-server's timings: milliseconds, and tokens a second."""
    used, times = answer.usage, answer.timings
    fresh = used.prompt_tokens - used.cached_tokens
    return {
        "cache_n": used.cached_tokens,
        **_stage("prompt", fresh, prompt_s(times)),
        **_stage("predicted", used.completion_tokens, times.generate_s or 0.0),
    }


async def chunks(
    reply: Reply,
    collected: Collected,
    parts: AsyncGenerator[Piece | Answer],
    *,
    include_usage: bool,
) -> AsyncGenerator[dict[str, Any]]:
    """The chunks of an answer as its pieces come."""
    yield reply.chunk({"role": "assistant", "content": ""})
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Piece):
                if delta := collected.take(part):
                    yield reply.chunk(delta)
            else:
                if delta := collected.end(part):
                    yield reply.chunk(delta)
                yield reply.chunk({}, collected.finish_reason(part), part)
                if include_usage:
                    yield reply.usage_chunk(part)


def _stage(name: str, tokens: int, seconds: float) -> dict[str, float]:
    ms = seconds * 1000
    return {
        f"{name}_n": tokens,
        f"{name}_ms": ms,
        f"{name}_per_token_ms": ms / tokens if tokens else 0.0,
        f"{name}_per_second": tokens / seconds if seconds else 0.0,
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    # Half of a character has no bytes of its own to tell.
    known = "\ufffd" not in text
    return {
        "token": text,
        "logprob": max(logprob, -9999.0),
        "bytes": list(text.encode()) if known else None,
    }
