"""OpenVINO GenAI's VLMPipeline on the CPU, frames as a video.

The model is converted by optimum-intel; see docs/performance.md.
"""

from __future__ import annotations

import time

import numpy as np
import openvino
import openvino_genai

from benchmarks.peers import child
from benchmarks.peers.request import Reading, Request


class Clock(openvino_genai.StreamerBase):  # type: ignore[misc]
    """Hears every token as it comes, before it is made text."""

    def __init__(self) -> None:
        super().__init__()
        self.first: float | None = None
        self.count = 0

    def write(self, token: int | list[int]) -> openvino_genai.StreamingStatus:
        """Called with one token, or several."""
        if self.first is None:
            self.first = time.perf_counter()
        self.count += len(token) if isinstance(token, list) else 1
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Called at last."""


def main() -> None:
    """Load and answer."""
    config = child.config()
    pipe = openvino_genai.VLMPipeline(
        config["openvino"], "CPU", INFERENCE_NUM_THREADS=config["threads"]
    )

    def answer(request: Request) -> Reading:
        options = openvino_genai.GenerationConfig()
        options.max_new_tokens = request.tokens
        options.do_sample = False
        pictures = [child.read_picture(path) for path in request.frames]
        clock = Clock()
        began = time.perf_counter()
        media = {"videos": [openvino.Tensor(np.stack(pictures))]} if pictures else {}
        pipe.start_chat(request.system)
        found = pipe.generate(request.question, generation_config=options, streamer=clock, **media)
        total = time.perf_counter() - began
        pipe.finish_chat()
        metrics = found.perf_metrics
        return Reading(
            first_token_s=total if clock.first is None else clock.first - began,
            total_s=total,
            answer=found.texts[0],
            prompt_tokens=metrics.get_num_input_tokens(),
            answer_tokens=clock.count,
            own={
                "ttft_ms": metrics.get_ttft().mean,
                "vision_ms": metrics.get_vision_encoding_duration().mean,
                "embeddings_ms": metrics.get_prepare_embeddings_duration().mean,
            },
        )

    versions = {
        "openvino": openvino.__version__,
        "openvino-genai": openvino_genai.__version__,
    }
    child.serve(answer, versions)


if __name__ == "__main__":
    main()
