"""The ViT alone: frame pairs through libmtmd, no language model at work beside it."""

from __future__ import annotations

import time

from benchmarks.peers import child
from benchmarks.peers.request import Reading, Request
from benchmarks.peers.side_miloco_edge import Native
from miloco_edge import registry
from miloco_edge.engine.sizes import vision_shape
from miloco_edge.llama import TextModel, VisionEncoder


def main() -> None:
    """Load and encode."""
    config = child.config()
    native = Native()
    native.watch()
    files = registry.resolve(config["model"])
    # libmtmd wants a text model beside it. Mapped and not repacked, it is hardly read.
    model = TextModel(files.text, file_type=files.file_type, repack=False, mmap=True)
    shape = vision_shape(registry.read_header(files.mmproj))
    vision = VisionEncoder(files.mmproj, model, shape, threads=config["threads"], use_gpu=False)

    def answer(request: Request) -> Reading:
        frames = [child.read_picture(path) for path in request.frames]
        with native.counted() as spent:
            began = time.perf_counter()
            for first, second in zip(frames[::2], frames[1::2], strict=True):
                vision.encode((first, second))
            total = time.perf_counter() - began
            return Reading(total, total, "", own={"native_s": spent()})

    child.serve(answer, {"pairs_merged": vision.merges_pairs})


if __name__ == "__main__":
    main()
