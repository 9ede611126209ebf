"""transformers on the CPU: what the model's makers published, in its own video layout."""

from __future__ import annotations

import time
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from benchmarks.peers import child
from benchmarks.peers.request import Reading, Request


class Clock:
    """Hears every token as it comes (transformers' streamer protocol)."""

    def __init__(self) -> None:
        self.first: float | None = None
        self._prompt = True

    def put(self, value: Any) -> None:
        """Called with the prompt at first, then with each token."""
        if not self._prompt and self.first is None:
            self.first = time.perf_counter()
        self._prompt = False

    def end(self) -> None:
        """Called at last."""


def main() -> None:
    """Load and answer."""
    config = child.config()
    oracle = import_module("tests.reference.transformers_oracle")
    torch.set_num_threads(config["threads"])
    dtype = getattr(torch, config["dtype"])
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(config["checkpoint"], dtype=dtype)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(config["checkpoint"])
    image, video = tokenizer.convert_tokens_to_ids([oracle.IMAGE, oracle.VIDEO])
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])

    def answer(request: Request) -> Reading:
        pictures = [child.read_picture(path) for path in request.frames]
        clock = Clock()
        began = time.perf_counter()
        media, inputs = "", {}
        if pictures:
            values, grid = oracle.patches(pictures)
            media = f"<|vision_start|>{oracle.VIDEO * int(grid.prod() // 4)}<|vision_end|>"
            inputs = {
                "pixel_values_videos": values.to(dtype),
                "video_grid_thw": grid,
                "second_per_grid_ts": torch.tensor([2 / request.fps]),
            }
        text = (
            f"<|im_start|>system\n{request.system}<|im_end|>\n<|im_start|>user\n{media}"
            f"{request.question}<|im_end|>\n<|im_start|>assistant\n"
        )
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        inputs["mm_token_type_ids"] = (ids == image).int() + 2 * (ids == video).int()
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request.tokens,
                do_sample=False,
                repetition_penalty=1.0,
                eos_token_id=ends,
                pad_token_id=ends[-1],
                streamer=clock,
                **inputs,
            )
        total = time.perf_counter() - began
        said = found[0, ids.shape[1] :]
        return Reading(
            first_token_s=total if clock.first is None else clock.first - began,
            total_s=total,
            answer=tokenizer.decode(said, skip_special_tokens=True),
            prompt_tokens=ids.shape[1],
            answer_tokens=len(said),
        )

    versions = {name: version(name) for name in ("torch", "transformers")}
    child.serve(answer, {**versions, "dtype": config["dtype"]})


if __name__ == "__main__":
    main()
