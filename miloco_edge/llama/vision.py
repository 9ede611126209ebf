"""The ViT and merger through libmtmd: pixels in, visual tokens out.

libmtmd is used for the ViT alone. Its own layout of a video (markers around every pair, other
positions) is not the one the model was trained on, so tokens and positions are ours.
"""

from __future__ import annotations

import ctypes
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from llama_cpp import mtmd_cpp
from numpy.typing import NDArray

from miloco_edge.errors import EngineError, ModelLoadError, NonFiniteError
from miloco_edge.llama import native
from miloco_edge.llama.activations import ActivationSums, observing
from miloco_edge.llama.model import TextModel
from miloco_edge.types import RGB, VisualTokens

logger = logging.getLogger("miloco_edge.llama")

TOKEN_PIXELS = 28
"""A visual token covers 28x28 pixels: 14-pixel patches merged two by two."""
MIN_TOKENS, MAX_TOKENS = 4, 4096
"""Bounds of one picture. libmtmd letterboxes what lies outside, so nothing outside is sent.

4096 is the report's limit (arXiv 2512.17436, 3.1); libmtmd's attention mask takes 1 GiB there.
"""
_IMAGE_CHUNK = mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE


@dataclass(frozen=True)
class VisionShape:
    """The ViT's dimensions, as far as its cost depends on them."""

    layers: int
    hidden: int
    ffn: int

    def flops(self, tokens: int) -> float:
        """Multiply-adds of one picture of `tokens` merged tokens.

        libmtmd computes every layer with full attention under a mask (clip.cpp), so windowed
        layers cost the same as full ones.
        """
        patches = 4 * tokens
        dense = 4 * self.hidden**2 + 3 * self.hidden * self.ffn
        attention = 2 * patches * self.hidden
        return float(2 * self.layers * patches * (dense + attention))


class VisionEncoder:
    """An mmproj next to its text model; close it before the model."""

    def __init__(
        self,
        path: Path,
        model: TextModel,
        shape: VisionShape,
        *,
        threads: int,
        use_gpu: bool,
        observer: ActivationSums | None = None,
    ) -> None:
        """Load an mmproj that `registry` has checked against the text model.

        Raises ModelLoadError with llama.cpp's own last word if libmtmd still refuses.
        """
        native.start_backend()
        self.n_embd = model.n_embd
        self.shape = shape
        self._observer = observer
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu = use_gpu
        params.n_threads = threads
        params.print_timings = False
        # The probe below warms up at a useful size; libmtmd's own warm-up is 46x46 tokens.
        params.warmup = False
        params.image_min_tokens, params.image_max_tokens = MIN_TOKENS, MAX_TOKENS
        if observer is not None:
            params.cb_eval = observer.callback
        native.take_last_error()
        self.handle = mtmd_cpp.mtmd_init_from_file(os.fsencode(path), model.handle, params)
        if not self.handle:
            raise ModelLoadError(
                f"{path.name}: llama.cpp could not load it: {native.take_last_error()}",
                hint="check that the mmproj was made from the same checkpoint as the text model",
            )
        self._seconds_per_flop = 0.0
        try:
            self.merges_pairs = self._probe_pair_merging()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the ViT; a second call does nothing."""
        if self.handle:
            mtmd_cpp.mtmd_free(self.handle)
            self.handle = None

    def encode(self, frames: tuple[RGB, ...]) -> VisualTokens:
        """Encode one still picture or one temporal patch of two frames of the same size.

        Frames are (h, w, 3) uint8 with h and w multiples of 28: libmtmd then copies the pixels
        as they are. Where this build cannot merge a pair, its first frame stands for both.
        Raises NonFiniteError on NaN embeddings.
        """
        height, width, _ = frames[0].shape
        grid = (1, height // TOKEN_PIXELS, width // TOKEN_PIXELS)
        tokens = grid[1] * grid[2]
        if height % TOKEN_PIXELS or width % TOKEN_PIXELS or not MIN_TOKENS <= tokens <= MAX_TOKENS:
            raise ValueError(
                f"expected sides that are multiples of {TOKEN_PIXELS} and {MIN_TOKENS} to "
                f"{MAX_TOKENS} tokens, got {width}x{height} ({tokens} tokens)"
            )
        if not self.merges_pairs:
            frames = frames[:1]
        chunks = self._tokenize(frames)
        started = time.perf_counter()
        try:
            embeddings = self._encode_only_image(chunks, tokens)
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
        self._seconds_per_flop = (time.perf_counter() - started) / self.shape.flops(tokens)
        return VisualTokens(embeddings, grid)

    def predict_seconds(self, tokens: int) -> float:
        """How long `encode` will take for `tokens`, from the call before it (the probe at first).

        libmtmd cannot be stopped inside a call, so a call that will not fit is not begun.
        """
        return self._seconds_per_flop * self.shape.flops(tokens)

    def _probe_pair_merging(self) -> bool:
        """Whether two frames become one temporal patch here: their tokens must depend on both."""
        side = 8 * TOKEN_PIXELS
        black = np.zeros((side, side, 3), np.uint8)
        grey = np.full((side, side, 3), 160, np.uint8)
        self.merges_pairs = True
        try:
            pair = self.encode((black, grey)).embeddings
            still = self.encode((black, black)).embeddings
        except _NotMerged:
            logger.warning(
                "this build of llama.cpp does not merge frame pairs; "
                "the first frame of each pair stands for both"
            )
            return False
        return not np.array_equal(pair, still)

    def _tokenize(self, frames: tuple[RGB, ...]) -> ctypes.c_void_p:
        """libmtmd's input chunks of the frames; pairs are marked for temporal merging."""
        marker = mtmd_cpp.mtmd_default_marker() * len(frames)
        text = mtmd_cpp.mtmd_input_text(marker, len(marker), False, True)
        bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * len(frames))()
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        try:
            for i, frame in enumerate(frames):
                height, width, _ = frame.shape
                pixels = np.ascontiguousarray(frame, dtype=np.uint8)
                pointer = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
                bitmaps[i] = mtmd_cpp.mtmd_bitmap_init(width, height, pointer)
                # Only neighbours that both say so are merged (mtmd.cpp, can_merge_with).
                mtmd_cpp.mtmd_bitmap_set_mergeable(bitmaps[i], len(frames) == 2)
            status = mtmd_cpp.mtmd_tokenize(
                self.handle, chunks, ctypes.byref(text), bitmaps, len(frames)
            )
            if status != 0:
                raise EngineError(f"mtmd_tokenize failed with {status}: {native.take_last_error()}")
        except BaseException:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
            raise
        finally:
            for bitmap in bitmaps:
                if bitmap:
                    mtmd_cpp.mtmd_bitmap_free(bitmap)
        return chunks  # type: ignore[no-any-return]

    def _encode_only_image(self, chunks: ctypes.c_void_p, tokens: int) -> NDArray[np.float32]:
        """Encode the one image chunk among libmtmd's own marker tokens: (tokens, n_embd)."""
        count = mtmd_cpp.mtmd_input_chunks_size(chunks)
        every = [mtmd_cpp.mtmd_input_chunks_get(chunks, i) for i in range(count)]
        images = [c for c in every if mtmd_cpp.mtmd_input_chunk_get_type(c) == _IMAGE_CHUNK]
        if len(images) != 1:
            raise _NotMerged(f"expected one image chunk, got {len(images)}")
        got = mtmd_cpp.mtmd_input_chunk_get_n_tokens(images[0])
        if got != tokens:
            raise EngineError(f"expected {tokens} visual tokens from libmtmd, got {got}")
        with observing(self._observer, "visual"):
            status = mtmd_cpp.mtmd_encode_chunk(self.handle, images[0])
        if status != 0:
            raise EngineError(f"mtmd_encode_chunk failed with {status}: {native.take_last_error()}")
        # The buffer is libmtmd's and is used again by the next call, so copy.
        output = mtmd_cpp.mtmd_get_output_embd(self.handle)
        embeddings = np.ctypeslib.as_array(output, (tokens, self.n_embd)).copy()
        if not np.isfinite(embeddings).all():
            raise NonFiniteError("vision encoder")
        return embeddings


class _NotMerged(EngineError):
    """libmtmd made two images of a frame pair."""
