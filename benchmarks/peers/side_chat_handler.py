"""llama-cpp-python's high-level API with its Qwen2.5-VL chat handler; frames as pictures."""

from __future__ import annotations

import base64
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llama_cpp import Llama
from llama_cpp.llama_chat_format import Qwen25VLChatHandler

from benchmarks.peers import child
from benchmarks.peers.request import Reading, Request


def messages(request: Request) -> list[dict[str, Any]]:
    """As its README has them."""
    parts: list[dict[str, Any]] = [
        {
            "type": "image_url",
            "image_url": {
                "url": "data:image/png;base64," + base64.b64encode(Path(p).read_bytes()).decode()
            },
        }
        for p in request.frames
    ]
    parts.append({"type": "text", "text": request.question})
    return [
        {"role": "system", "content": request.system},
        {"role": "user", "content": parts},
    ]


def main() -> None:
    """Load and answer."""
    config = child.config()
    handler = Qwen25VLChatHandler(clip_model_path=config["mmproj"], verbose=False)
    llama = Llama(
        config["text"],
        chat_handler=handler,
        n_ctx=config["context"],
        n_threads=config["threads"],
        n_threads_batch=config["threads"],
        verbose=False,
    )

    def answer(request: Request) -> Reading:
        asked = messages(request)
        began = time.perf_counter()
        first: float | None = None
        words: list[str] = []
        for chunk in llama.create_chat_completion(
            messages=asked,
            max_tokens=request.tokens,
            temperature=0.0,
            repeat_penalty=1.0,
            stream=True,
        ):
            said = chunk["choices"][0]["delta"].get("content")
            if said:
                first = first or time.perf_counter() - began
                words.append(said)
        total = time.perf_counter() - began
        text = "".join(words)
        # A stream tells no usage: the answer is counted with the model's own tokens.
        counted = len(llama.tokenize(text.encode(), add_bos=False)) if text else 0
        return Reading(first or total, total, text, answer_tokens=counted)

    child.serve(answer, {"llama-cpp-python": version("llama-cpp-python")})


if __name__ == "__main__":
    main()
