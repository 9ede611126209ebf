"""Prefill of a scene: visual tokens where the model was trained to find them."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine.cache import EmbeddingCache, content_key
from miloco_edge.engine.interrupt import Interrupt, Stopped, StopReason
from miloco_edge.llama import Context, Interrupted, TextModel, VisionEncoder
from miloco_edge.prompt import Text, grid_positions, next_position, opening, temporal_step
from miloco_edge.prompt.chat import VISION_END, VISION_START
from miloco_edge.types import RGB, VisualTokens
from miloco_edge.video import FittedClip


@dataclass(frozen=True)
class Prefilled:
    """A scene in the KV cache."""

    sequence: int
    position: int
    """Where the next text token goes."""
    pending: str
    """Template text that comes before the question and is decoded with it."""
    tokens: int
    visual_tokens: int
    cached_tokens: int
    """Of `tokens`, those whose KV was there already (the system prompt)."""
    vision_s: float
    prefill_s: float
    stopped: StopReason | None = None
    """Set if time ran out or the caller left before the scene was whole; it has no cells then."""


class Lookout:
    """The model, its context and what can be reused between scenes. Used by one thread."""

    def __init__(self, model: TextModel, context: Context, vision: VisionEncoder) -> None:
        self.model, self.context, self.vision = model, context, vision
        self.embeddings = EmbeddingCache()
        # System prompt -> its sequence and length; the oldest is dropped beyond four.
        self._openings: OrderedDict[tuple[str, bool], tuple[int, int]] = OrderedDict()
        # Clips that were asked about -> a copy of their scene; the oldest is dropped beyond two.
        self._kept: OrderedDict[tuple[object, ...], Prefilled] = OrderedDict()
        context.give_way = self._give_way

    def look(
        self,
        clip: FittedClip | None,
        *,
        system: str,
        tokens_per_second: float,
        interrupt: Interrupt,
        keep: bool = False,
    ) -> Prefilled:
        """Encode and prefill `clip` after the system prompt; without a clip, the prompt alone.

        What is to be kept is there for the next look at the same, as long as nobody needs its
        cells.
        """
        key = _content(clip, system, tokens_per_second) if keep and clip is not None else None
        if key is not None and (kept := self._again(key, interrupt)) is not None:
            return kept
        prefilled = self._look(
            clip, system=system, tokens_per_second=tokens_per_second, interrupt=interrupt
        )
        if key is not None and prefilled.stopped is None and self.context.free_sequences > 2:
            sequence = self.context.new_sequence(copy_of=prefilled.sequence)
            self._kept[key] = replace(prefilled, sequence=sequence)
            if len(self._kept) > 2:
                self._drop_oldest_kept()
        return prefilled

    def _again(self, key: tuple[object, ...], interrupt: Interrupt) -> Prefilled | None:
        """A scene that was kept, as new."""
        if key not in self._kept or interrupt.reason() is not None:
            return None
        self._kept.move_to_end(key)
        kept = self._kept[key]
        return replace(
            kept,
            sequence=self.context.new_sequence(copy_of=kept.sequence),
            cached_tokens=kept.tokens,
            vision_s=0.0,
            prefill_s=0.0,
        )

    def _look(
        self,
        clip: FittedClip | None,
        *,
        system: str,
        tokens_per_second: float,
        interrupt: Interrupt,
    ) -> Prefilled:
        if (reason := interrupt.reason()) is not None:
            return _cut_short(reason, vision_s=0.0)
        opening_sequence, position, cached = self.opening(system, media=clip is not None)
        if clip is None:
            sequence = self.context.new_sequence(copy_of=opening_sequence)
            return Prefilled(sequence, position, "", position, 0, cached, 0.0, 0.0)
        n = clip.visual_tokens
        self.context.reserve(n)  # before the ViT, which may take a minute
        started = time.perf_counter()
        with interrupt.armed(self.context.abort):
            try:
                visual = [self._encode(frames, interrupt) for frames in clip.patches]
            except Stopped as stop:
                return _cut_short(stop.reason, vision_s=time.perf_counter() - started)
            encoded = time.perf_counter()
            sequence = self.context.new_sequence(copy_of=opening_sequence)
            try:
                if clip.layout == "video":
                    step = temporal_step(clip.fps, tokens_per_second)
                    end = self._prefill(sequence, visual, position, step, interrupt)
                    markers = 0
                else:
                    end, markers = self._prefill_pictures(sequence, visual, position, interrupt)
            except Stopped as stop:
                self.context.drop_sequence(sequence)
                return _cut_short(stop.reason, vision_s=encoded - started)
            except Interrupted:
                self.context.drop_sequence(sequence)
                reason = interrupt.reason() or "cancelled"
                return _cut_short(reason, vision_s=encoded - started)
            except BaseException:
                self.context.drop_sequence(sequence)
                raise
        return Prefilled(
            sequence,
            end,
            VISION_END,
            tokens=position + n + markers,
            visual_tokens=n,
            cached_tokens=cached,
            vision_s=encoded - started,
            prefill_s=time.perf_counter() - encoded,
        )

    def tokenize(self, pieces: list[Text]) -> NDArray[np.int32]:
        """Token ids of prompt pieces: (n,) int32."""
        parts = [self.model.tokenize(p.text, special=p.special) for p in pieces if p.text]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def opening(self, system: str, *, media: bool) -> tuple[int, int, int]:
        """Sequence and length of the prefilled system prompt, and how much of it was there.

        Kept for every later scene, so it is finished whatever the request's deadline.
        """
        key = (system, media)
        if key in self._openings:
            self._openings.move_to_end(key)
            sequence, length = self._openings[key]
            return sequence, length, length
        pieces = opening(system) + ([Text(VISION_START, special=True)] if media else [])
        tokens = self.tokenize(pieces)
        sequence = self.context.new_sequence()
        try:
            self.context.decode_tokens(sequence, tokens, 0)
        except BaseException:
            self.context.drop_sequence(sequence)
            raise
        self._openings[key] = (sequence, len(tokens))
        if len(self._openings) > 4:
            _, (oldest, _) = self._openings.popitem(last=False)
            self.context.drop_sequence(oldest)
        return sequence, len(tokens), 0

    def forget(self) -> None:
        """Drop what is kept between scenes, as if the model had just been loaded."""
        self.embeddings = EmbeddingCache()
        while self._kept:
            self._drop_oldest_kept()
        while self._openings:
            _, (sequence, _) = self._openings.popitem()
            self.context.drop_sequence(sequence)

    def _give_way(self, cells: int) -> None:
        """Drop kept scenes, then the oldest system prompts but the newest, which is built on."""
        while self._kept and cells > self.context.free_cells:
            self._drop_oldest_kept()
        while len(self._openings) > 1 and cells > self.context.free_cells:
            _, (oldest, _) = self._openings.popitem(last=False)
            self.context.drop_sequence(oldest)

    def _drop_oldest_kept(self) -> None:
        _, oldest = self._kept.popitem(last=False)
        self.context.drop_sequence(oldest.sequence)

    def _encode(self, frames: tuple[RGB, ...], interrupt: Interrupt) -> VisualTokens:
        interrupt.check()
        height, width, _ = frames[0].shape
        if not self.embeddings.holds(frames):
            expected = self.vision.predict_seconds(height * width // (28 * 28))
            if expected > interrupt.remaining():
                raise Stopped("deadline")
        return self.embeddings.get(frames, self.vision.encode)

    def _prefill_pictures(
        self, sequence: int, visual: list[VisualTokens], position: int, interrupt: Interrupt
    ) -> tuple[int, int]:
        """Decode pictures one after another: the next position, and the marker tokens between."""
        between = self.model.tokenize(VISION_END + VISION_START, special=True)
        for i, picture in enumerate(visual):
            if i > 0:
                self.context.decode_tokens(sequence, between, position, interrupt.check)
                position += len(between)
            position = self._prefill(sequence, [picture], position, 1, interrupt)
        return position, len(between) * (len(visual) - 1)

    def _prefill(
        self,
        sequence: int,
        visual: list[VisualTokens],
        position: int,
        step: int,
        interrupt: Interrupt,
    ) -> int:
        """Decode the patches of one video, or one picture, as one batch: the next position."""
        _, height, width = visual[0].grid
        grid = (len(visual), height, width)
        embeddings = np.concatenate([v.embeddings for v in visual])
        positions = grid_positions(position, grid, step)
        self.context.decode_visual(sequence, embeddings, positions, interrupt.check)
        return next_position(position, grid, step)


def _content(clip: FittedClip, system: str, tokens_per_second: float) -> tuple[object, ...]:
    """What a scene is made of, by its pixels."""
    pictures = tuple(content_key(frames) for frames in clip.patches)
    return system, clip.layout, clip.fps, tokens_per_second, pictures


def _cut_short(reason: StopReason, *, vision_s: float) -> Prefilled:
    return Prefilled(-1, 0, "", 0, 0, 0, vision_s, 0.0, reason)
