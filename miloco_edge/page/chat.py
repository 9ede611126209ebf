"""Exchanges as the messages of a chat window: plain text, with the thinking folded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miloco_edge.page.visit import Exchange
from miloco_edge.page.words import Language, word

_ENDED = {"length", "deadline", "cancelled"}


def messages(exchanges: Sequence[Exchange], language: Language) -> list[dict[str, Any]]:
    """Messages as Gradio's Chatbot takes them, the oldest first."""
    return [message for exchange in exchanges for message in _of(exchange, language)]


def _of(exchange: Exchange, language: Language) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = [{"role": "user", "content": exchange.question}]
    if exchange.thinking:
        status = "pending" if exchange.stage == "answering" and not exchange.text else "done"
        said.append(
            {
                "role": "assistant",
                "content": exchange.thinking,
                "metadata": {"title": word("thought", language), "status": status},
            }
        )
    said.append({"role": "assistant", "content": _text(exchange, language)})
    return said


def _text(exchange: Exchange, language: Language) -> str:
    """The answer so far, or what is going on instead, and why it ended if it was cut."""
    if exchange.error is not None:
        hint = f"\n{exchange.error.hint}" if exchange.error.hint else ""
        return f"{exchange.error}{hint}"
    if exchange.stage == "looking":
        return word("looking", language)
    if exchange.stage == "answering":
        return exchange.text or "…"
    ended = f"[{word(f'ended_{exchange.finish}', language)}]" if exchange.finish in _ENDED else ""
    return " ".join(part for part in (exchange.text, ended) if part)
