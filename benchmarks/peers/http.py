"""OpenAI's chat completions over HTTP, streamed, with what it takes to time them."""

from __future__ import annotations

import base64
import http.client
import json
import mimetypes
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.process import PeerError
from benchmarks.peers.request import Reading, Request

PATH = "/v1/chat/completions"


def body(request: Request, *, as_video: bool = False, **more: Any) -> dict[str, Any]:
    """A request in OpenAI's words: pictures first, then the question; greedy."""
    parts: list[dict[str, Any]] = []
    if as_video and request.video is not None:
        data = base64.b64encode(Path(request.video).read_bytes()).decode()
        parts.append({"type": "input_video", "input_video": {"data": data}})
    else:
        for frame in request.frames:
            data = base64.b64encode(Path(frame).read_bytes()).decode()
            url = f"data:{mimetypes.guess_type(frame)[0]};base64,{data}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    parts.append({"type": "text", "text": request.question})
    return {
        "model": "any",
        "messages": [
            {"role": "system", "content": request.system},
            {"role": "user", "content": parts},
        ],
        "temperature": 0,
        "max_tokens": request.tokens,
        **more,
    }


def streamed(port: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> Reading:
    """Ask and read the stream. Raises PeerError for any answer but 200."""
    asked = {**document, "stream": True, "stream_options": {"include_usage": True}}
    content = json.dumps(asked)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1800)
    began = time.perf_counter()
    try:
        connection.request("POST", PATH, content, {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        if reply.status != 200:
            raise PeerError(f"status {reply.status}: {reply.read()[:300]!r}")
        return read_stream(reply, began)
    finally:
        connection.close()


def read_stream(lines: Any, began: float) -> Reading:
    """What a stream of server-sent events says; `began` by time.perf_counter."""
    first: float | None = None
    words: list[str] = []
    usage: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for event in events(lines):
        if "error" in event:
            raise PeerError(f"in the stream: {event['error']}")
        usage = event.get("usage") or usage
        own = event.get("timings") or own
        for choice in event.get("choices", ()):
            delta = choice.get("delta") or {}
            said = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            if said and first is None:
                first = time.perf_counter() - began
            if said:
                words.append(said)
    total = time.perf_counter() - began
    return Reading(
        first_token_s=total if first is None else first,
        total_s=total,
        answer="".join(words),
        prompt_tokens=usage.get("prompt_tokens"),
        # Where no usage is told, a chunk is taken for a token: they come as they are made.
        answer_tokens=usage.get("completion_tokens", len(words) or None),
        own={**own, **({"usage": usage} if usage else {})},
    )


def events(lines: Any) -> Iterator[dict[str, Any]]:
    """The JSON of each `data:` line until [DONE]."""
    for line in lines:
        text = line.strip()
        if text.startswith(b"data:"):
            data = text[5:].strip()
            if data == b"[DONE]":
                return
            yield json.loads(data)
