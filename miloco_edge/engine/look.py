"""Prefill of a scene: visual tokens where the model was trained to find them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miloco_edge.engine.cache import EmbeddingCache, content_key
from miloco_edge.engine.economy import EXACT, Economy, Savings, kept_tokens, shown_pairs
from miloco_edge.engine.interrupt import Interrupt, Stopped, StopReason
from miloco_edge.engine.pace import Pace
from miloco_edge.engine.plan import spread
from miloco_edge.engine.prefix import Prefixes
from miloco_edge.engine.reel import Reel, Reels
from miloco_edge.engine.spent import Spent
from miloco_edge.llama import TOKEN_PIXELS, Context, Interrupted, TextModel, VisionEncoder
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
    """Of `tokens`, those whose KV was there already (the system prompt, streamed pairs)."""
    vision_s: float
    prefill_s: float
    savings: Savings | None = None
    """What a look at a video did without."""
    stopped: StopReason | None = None
    """Set if time ran out or the caller left before the scene was whole; it has no cells then."""


class Lookout:
    """The model, its context and what can be reused between scenes. Used by one thread."""

    def __init__(
        self,
        model: TextModel,
        context: Context,
        vision: VisionEncoder,
        prefixes: Prefixes | None = None,
    ) -> None:
        self.model, self.context, self.vision = model, context, vision
        self._prefixes = prefixes
        self.embeddings = EmbeddingCache()
        self.pace: Pace | None = None
        """How fast the model is here; None until somebody measured."""
        self.control: np.random.Generator | None = None
        """What is left out is drawn by chance, as much of it: a baseline for measurements."""
        self._reels = Reels(context)
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
        economy: Economy = EXACT,
        keep: bool = False,
    ) -> Prefilled:
        """Encode and prefill `clip` after the system prompt; without a clip, the prompt alone.

        What is to be kept is there for the next look at the same, as long as nobody needs its
        cells.
        """
        if (reason := interrupt.reason()) is not None:
            return _cut_short(reason, Spent())
        if clip is None:
            begun, position, cached = self.opening(system, media=False)
            sequence = self.context.new_sequence(copy_of=begun)
            return Prefilled(sequence, position, "", position, 0, cached, 0.0, 0.0)
        contents = tuple(content_key(frames) for frames in clip.patches)
        key = None
        if keep:
            key = (system, clip.layout, clip.fps, tokens_per_second, economy, *contents)
            if key in self._kept:
                return self._again(key)
        if clip.layout == "video":
            step = temporal_step(clip.fps, tokens_per_second)
            prefilled = self._look_at_video(clip, contents, system, step, economy, interrupt)
        else:
            prefilled = self._look_at_pictures(clip, contents, system, interrupt)
        # One that overtook may have kept the same.
        if key is not None and key not in self._kept and _is_whole(prefilled):
            self._keep(key, prefilled)
        return prefilled

    def _keep(self, key: tuple[object, ...], prefilled: Prefilled) -> None:
        """Keep a copy of a scene, if there is room for one."""
        if self.context.free_sequences > 2:
            sequence = self.context.new_sequence(copy_of=prefilled.sequence)
            self._kept[key] = replace(prefilled, sequence=sequence)
            if len(self._kept) > 2:
                self._drop_oldest_kept()

    def _again(self, key: tuple[object, ...]) -> Prefilled:
        """A scene that was kept, as new."""
        kept = self._kept.pop(key)  # so that it does not give way to its own copy
        try:
            sequence = self.context.new_sequence(copy_of=kept.sequence)
        finally:
            self._kept[key] = kept
        return replace(
            kept, sequence=sequence, cached_tokens=kept.tokens, vision_s=0.0, prefill_s=0.0
        )

    def _look_at_video(
        self,
        clip: FittedClip,
        keys: tuple[bytes, ...],
        system: str,
        step: int,
        economy: Economy,
        interrupt: Interrupt,
    ) -> Prefilled:
        """Lay the video's pairs, all of them or those that the window before did not have."""
        spent = Spent()
        header = (system, step, clip.size, economy)
        known, cached = 0, 0
        taken = self._reels.take(header, keys, economy.streaming)
        if taken is None:
            with spent.on("prefill_s", interrupt.clock):
                begun, base, cached = self.opening(system, media=True)
            size = clip.size[1] // TOKEN_PIXELS, clip.size[0] // TOKEN_PIXELS
            reel = Reel(header, self.context.new_sequence(copy_of=begun), base, step, size)
        else:
            reel, known = taken
        with interrupt.armed(self.context.abort):
            try:
                reel.move_to(keys, known, self.context)
                if taken is not None:
                    cached = reel.base + reel.cells
                fresh = clip.patches[known:]
                shown = shown_pairs(fresh, reel.last, economy, self.control)
                hits = self.embeddings.hits
                # Before the ViT, which may take a minute.
                self.context.reserve(sum(_tokens(pair) for pair in shown.values()))
                wanted = {
                    i: (pair, keys[known + i] if pair is fresh[i] else content_key(pair))
                    for i, pair in shown.items()
                }
                with spent.on("vision_s", interrupt.clock):
                    visual = self._encode_in_time(wanted, reel.base + reel.cells, interrupt)
                late, chosen = len(shown) - len(visual), sorted(visual)
                pruned = 0
                if chosen:
                    seen = [visual[i] for i in chosen]
                    kept = kept_tokens(seen, economy, self.control)
                    laid = sum(int(of_it.sum()) for of_it in kept)
                    pruned = sum(len(each.embeddings) for each in seen) - laid
                    indices = [reel.first + known + i for i in chosen]
                    before, began = reel.base + reel.cells, interrupt.clock()
                    with spent.on("prefill_s", interrupt.clock):
                        reel.lay(self.context, indices, seen, kept, interrupt)
                    self._learn_prefill(laid, before, interrupt.clock() - began)
                    reel.last = fresh[chosen[-1]]
            except BaseException as error:
                self.context.drop_sequence(reel.sequence)
                return _stopped(error, interrupt, spent)
        sequence = reel.sequence
        if economy.streaming and not late and self.context.free_sequences > 2:
            sequence = self.context.new_sequence(copy_of=reel.sequence)
            self._reels.hold(reel)
        return Prefilled(
            sequence,
            reel.position,
            VISION_END,
            tokens=reel.base + reel.cells,
            visual_tokens=reel.cells,
            cached_tokens=cached,
            vision_s=spent.vision_s,
            prefill_s=spent.prefill_s,
            savings=Savings(
                pairs=len(keys),
                static=len(fresh) - len(chosen) - late,
                coarse=sum(shown[i] is not fresh[i] for i in chosen),
                late=late,
                remembered=self.embeddings.hits - hits,
                streamed=known,
                pruned_tokens=pruned,
            ),
        )

    def _look_at_pictures(
        self, clip: FittedClip, keys: tuple[bytes, ...], system: str, interrupt: Interrupt
    ) -> Prefilled:
        """Decode pictures one after another, each between markers of its own."""
        spent = Spent()
        with spent.on("prefill_s", interrupt.clock):
            begun, position, cached = self.opening(system, media=True)
        tokens = position + clip.visual_tokens
        between = self.model.tokenize(VISION_END + VISION_START, special=True)
        self.context.reserve(clip.visual_tokens)
        sequence = self.context.new_sequence(copy_of=begun)
        with interrupt.armed(self.context.abort):
            try:
                with spent.on("vision_s", interrupt.clock):
                    visual = [
                        self._encode(picture, key, interrupt)
                        for picture, key in zip(clip.patches, keys, strict=True)
                    ]
                before, began = position, interrupt.clock()
                with spent.on("prefill_s", interrupt.clock):
                    for i, picture in enumerate(visual):
                        if i > 0:
                            self.context.decode_tokens(sequence, between, position, interrupt.check)
                            position += len(between)
                            tokens += len(between)
                        places = grid_positions(position, picture.grid)
                        self.context.decode_visual(
                            sequence, picture.embeddings, places, interrupt.check
                        )
                        position = next_position(position, picture.grid)
                self._learn_prefill(tokens - before, before, interrupt.clock() - began)
            except BaseException as error:
                self.context.drop_sequence(sequence)
                return _stopped(error, interrupt, spent)
        return Prefilled(
            sequence,
            position,
            VISION_END,
            tokens=tokens,
            visual_tokens=clip.visual_tokens,
            cached_tokens=cached,
            vision_s=spent.vision_s,
            prefill_s=spent.prefill_s,
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
        prefixes = self._prefixes
        if prefixes is not None and system not in prefixes.systems:
            prefixes = None
        restored = None if prefixes is None else prefixes.restore(self.context, tokens)
        sequence = self._prefill_opening(tokens, prefixes) if restored is None else restored
        self._openings[key] = (sequence, len(tokens))
        if len(self._openings) > 4:
            _, (oldest, _) = self._openings.popitem(last=False)
            self.context.drop_sequence(oldest)
        return sequence, len(tokens), 0 if restored is None else len(tokens)

    def _prefill_opening(self, tokens: NDArray[np.int32], prefixes: Prefixes | None) -> int:
        sequence = self.context.new_sequence()
        try:
            self.context.decode_tokens(sequence, tokens, 0)
        except BaseException:
            self.context.drop_sequence(sequence)
            raise
        if prefixes is not None:
            prefixes.keep(self.context, sequence, tokens)
        return sequence

    def forget(self) -> None:
        """Drop what is kept between scenes, as if the model had just been loaded."""
        self.embeddings = EmbeddingCache()
        while self._kept:
            self._drop_oldest_kept()
        while self._reels.drop_oldest():
            pass
        while self._openings:
            _, (sequence, _) = self._openings.popitem()
            self.context.drop_sequence(sequence)

    def _give_way(self) -> bool:
        """Drop a kept scene, else a video that may go on, else a system prompt; the oldest.

        Whether there was one. The newest prompt stays, which is built on.
        """
        if self._kept:
            self._drop_oldest_kept()
            return True
        if self._reels.drop_oldest():
            return True
        if len(self._openings) > 1:
            _, (oldest, _) = self._openings.popitem(last=False)
            self.context.drop_sequence(oldest)
            return True
        return False

    def _drop_oldest_kept(self) -> None:
        _, oldest = self._kept.popitem(last=False)
        self.context.drop_sequence(oldest.sequence)

    def _encode(self, frames: tuple[RGB, ...], key: bytes, interrupt: Interrupt) -> VisualTokens:
        interrupt.check()
        if key not in self.embeddings:
            expected = self.vision.predict_seconds(_tokens(frames))
            if expected > interrupt.remaining():
                raise Stopped("deadline")
        return self.embeddings.get(key, lambda: self._see(frames))

    def _see(self, frames: tuple[RGB, ...]) -> VisualTokens:
        """The ViT on frames that were not seen before, and a lesson about its speed."""
        predicted = 0.0 if self.pace is None else self.pace.now().vision_s([_tokens(frames)])
        began = time.perf_counter()
        visual = self.vision.encode(frames)
        if self.pace is not None:
            self.pace.observe("vision", predicted, time.perf_counter() - began)
        return visual

    def _encode_in_time(
        self,
        pairs: Mapping[int, tuple[tuple[RGB, ...], bytes]],
        depth: int,
        interrupt: Interrupt,
    ) -> dict[int, VisualTokens]:
        """Encode pairs and their keys by number; one at least, all if there is time.

        Where the machine turns out to be slower than planned, what is there by then is spread over
        the clip: the last pair, the first, and those between.
        """
        visual: dict[int, VisualTokens] = {}
        held = 0
        order = list(pairs) if math.isinf(interrupt.remaining()) else spread(list(pairs))
        for i in order:
            frames, key = pairs[i]
            held += (tokens := _tokens(frames))
            if visual and self.pace is not None:
                rates = self.pace.now()
                needed = rates.prefill_s(held, depth)
                if key not in self.embeddings:
                    needed += rates.vision_s([tokens])
                if not interrupt.has_time(needed):
                    break
            visual[i] = self._encode(frames, key, interrupt)
        return visual

    def _learn_prefill(self, tokens: int, depth: int, seconds: float) -> None:
        if self.pace is not None:
            self.pace.observe("prefill", self.pace.now().prefill_s(tokens, depth), seconds)


def _tokens(frames: tuple[RGB, ...]) -> int:
    """Visual tokens of a picture or frame pair."""
    height, width = map(int, frames[0].shape[:2])
    return height * width // TOKEN_PIXELS**2


def _is_whole(prefilled: Prefilled) -> bool:
    """Whether nothing of a scene is missing for want of time."""
    late = 0 if prefilled.savings is None else prefilled.savings.late
    return prefilled.stopped is None and late == 0


def _cut_short(reason: StopReason, spent: Spent) -> Prefilled:
    return Prefilled(-1, 0, "", 0, 0, 0, spent.vision_s, spent.prefill_s, stopped=reason)


def _stopped(error: BaseException, interrupt: Interrupt, spent: Spent) -> Prefilled:
    """What a look that was stopped amounts to; any other error is raised."""
    if isinstance(error, Stopped):
        return _cut_short(error.reason, spent)
    if isinstance(error, Interrupted):
        return _cut_short(interrupt.reason() or "cancelled", spent)
    raise error
