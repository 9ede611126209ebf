"""What looks leave out: which pairs and tokens, where the others lie, what the model then sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from miloco_edge import Budget, Clip, Economy, Engine
from miloco_edge.engine.cache import EmbeddingCache
from miloco_edge.engine.economy import (
    Closer,
    change,
    changed_pairs,
    changed_tokens,
    coarse_pairs,
    economy_of,
    half_size,
    is_static,
)
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.engine.reel import Laid, Reel, Reels
from miloco_edge.llama import log_softmax
from miloco_edge.prompt import grid_positions, next_position
from miloco_edge.types import VisualTokens

SMALL = Budget(visual_tokens=192)
"""Three pairs of 64 tokens, below which pairs would be left out."""
QUESTION = "Who is there?"


def grey(level: int, *, spot: int | None = None) -> np.ndarray:
    """A picture of 28x28; a spot of 7x7 of another level."""
    picture = np.full((28, 28, 3), level, np.uint8)
    if spot is not None:
        picture[7:14, 14:21] = spot
    return picture


def waves(number: int, shift: int = 0) -> np.ndarray:
    """A smooth picture of 112x112, each number another."""
    y, x = np.mgrid[0:112, 0:112]
    channels = [x * 2 + 90 * number + shift, y * 2 + 50 * number, x + y + 30 * number]
    return (np.stack(channels, -1) % 256).astype(np.uint8)


def film(*numbers: int) -> Clip:
    """A pair for each number."""
    frames = [waves(n, shift) for n in numbers for shift in (0, 12)]
    return Clip.from_frames(frames, fps=2.0)


def still_film(*numbers: int) -> Clip:
    """A pair for each number, in which nothing moves."""
    return Clip.from_frames([waves(n) for n in numbers for _ in range(2)], fps=2.0)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    a, b = log_softmax(p), log_softmax(q)
    return float((np.exp(a) * (a - b)).sum())


def test_a_small_change_counts_and_noise_does_not() -> None:
    assert change(grey(100), grey(100)) == 0
    assert change(grey(100), grey(100, spot=130)) == 30
    assert change(grey(130, spot=100), grey(130)) == 30
    noise = np.random.default_rng(0).normal(0, 5, (2, 224, 224, 3))
    noisy = [(128 + n).clip(0, 255).astype(np.uint8) for n in noise]
    assert 1 < change(*noisy) < 8


def test_what_moves_within_each_pair_is_never_static() -> None:
    waving = (grey(100), grey(100, spot=160))
    assert not is_static(waving, waving, below=8)
    assert is_static((grey(101), grey(102)), (grey(100), grey(100)), below=8)


def test_pairs_are_compared_with_the_one_that_was_kept() -> None:
    pairs = [(grey(level), grey(level)) for level in (100, 105, 110, 110, 100)]
    assert changed_pairs(pairs, None, None) == [0, 1, 2, 3, 4]
    assert changed_pairs(pairs, None, 8) == [0, 2, 4], "a slow change adds up"
    assert changed_pairs(pairs, (grey(103),), 8) == [], "the first, too, where it is known"
    assert changed_pairs([], None, 8) == []


def test_pairs_that_are_much_like_the_last_whole_one_are_coarse() -> None:
    def pair(level: int) -> tuple[np.ndarray, ...]:
        return (np.full((84, 56, 3), level, np.uint8),) * 2

    pairs = {i: pair(level) for i, level in enumerate((100, 110, 120, 130, 100))}
    assert coarse_pairs(pairs, None) == []
    assert coarse_pairs(pairs, 16) == [1, 3], "a slow change adds up"
    assert half_size(pair(0)[0]) == (28, 28)
    assert half_size(grey(0)) is None, "a token has no half"
    assert coarse_pairs({0: (grey(100),), 1: (grey(101),)}, 16) == []


def test_tokens_that_are_alike_are_left_out() -> None:
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    nearly = np.array([1.0, 0.1])
    embeddings = np.array([[a, a], [nearly, b], [a, b * 7]], np.float32)
    whole = changed_tokens(embeddings, Economy())
    assert whole.all()
    kept = changed_tokens(embeddings, Economy(prune_above=0.9))
    assert kept.tolist() == [[True, True], [False, True], [False, False]]
    half = changed_tokens(embeddings, Economy(prune_share=0.5))
    assert half.tolist() == [[True, True], [False, True], [False, False]]
    most = changed_tokens(embeddings, Economy(prune_share=0.9))
    assert most.tolist() == [[True, True], [False, False], [False, False]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"static_below": 0},
        {"prune_above": 1.5},
        {"prune_share": 0.0},
        {"prune_above": 0.9, "prune_share": 0.5},
        {"streaming": -1},
        {"streaming": 8, "prune_share": 0.5},
        {"coarse_below": 256},
        {"streaming": 8, "coarse_below": 16},
        {"coarse_below": 16, "prune_above": 0.9},
    ],
)
def test_an_economy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Economy(**wrong)


def test_modes() -> None:
    assert economy_of("exact") == Economy()
    assert economy_of("live") != Economy()
    with pytest.raises(ValueError, match="exact, live"):
        economy_of("fast")  # type: ignore[arg-type]
    for wrong in ({"share": 1.0}, {"doubt": 0.6}, {"enough": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            Closer(**wrong)


def test_the_cache_is_bounded_in_bytes_and_forgets_the_oldest() -> None:
    def tokens() -> VisualTokens:
        return VisualTokens(np.zeros((4, 8), np.float32), (1, 2, 2))

    cache = EmbeddingCache(capacity_bytes=300)  # two of 128 bytes
    for key in (b"a", b"b", b"a", b"c"):
        cache.get(key, tokens)
    assert (b"a" in cache, b"b" in cache, b"c" in cache) == (True, False, True)
    assert (cache.held_bytes, cache.hits) == (256, 1)
    tiny = EmbeddingCache(capacity_bytes=100)
    assert tiny.get(b"a", tokens).embeddings.shape == (4, 8)
    assert (tiny.held_bytes, b"a" in tiny) == (0, False)


class Recorder:
    """A context that remembers which positions it holds."""

    def __init__(self) -> None:
        self.positions = np.empty((3, 0), np.int32)
        self.shared = False
        self.dropped: list[int] = []

    def decode_visual(self, sequence: int, embeddings: Any, positions: Any, check: Any) -> None:
        assert len(embeddings) == positions.shape[1]
        self.positions = np.concatenate([self.positions, positions], axis=1)

    def remove(self, sequence: int, position: int, cells: int) -> None:
        gone = self.positions[0] == position
        assert gone.sum() == cells
        self.positions = self.positions[:, ~gone]

    def is_shared(self, sequence: int) -> bool:
        return self.shared

    def drop_sequence(self, sequence: int) -> None:
        self.dropped.append(sequence)


def keys(text: str) -> tuple[bytes, ...]:
    return tuple(letter.encode() for letter in text)


def lay(reel: Reel, context: Recorder, indices: list[int]) -> None:
    h, w = reel.size
    seen = [VisualTokens(np.zeros((h * w, 4), np.float32), (1, h, w)) for _ in indices]
    kept = [np.ones(h * w, np.bool_) for _ in indices]
    reel.lay(context, indices, seen, kept, Interrupt())  # type: ignore[arg-type]


def test_a_window_that_moves_on_lies_where_the_whole_film_would() -> None:
    context = Recorder()
    reel = Reel(("header",), 1, base=15, step=2, size=(2, 3))
    reel.move_to(keys("abc"), 0, context)  # type: ignore[arg-type]
    lay(reel, context, [0, 1, 2])
    assert np.array_equal(context.positions, grid_positions(15, (3, 2, 3), 2))
    assert reel.position == next_position(15, (3, 2, 3), 2)
    assert reel.overlap(keys("bcd")) == 2
    reel.move_to(keys("bcd"), 2, context)  # type: ignore[arg-type]
    lay(reel, context, [3])
    whole = grid_positions(15, (4, 2, 3), 2)
    assert np.array_equal(context.positions, whole[:, 6:]), "but for the first pair"
    assert reel.position == next_position(15, (4, 2, 3), 2)
    assert reel.cells == 18


def test_a_pair_stands_for_those_after_it_that_were_left_out() -> None:
    context = Recorder()
    reel = Reel((), 1, base=5, step=2, size=(1, 1))
    reel.move_to(keys("abc"), 0, context)  # type: ignore[arg-type]
    lay(reel, context, [0, 2])  # b is as a
    reel.move_to(keys("bcd"), 2, context)  # type: ignore[arg-type]
    assert reel.laid == [Laid(0, 1), Laid(2, 1)], "a is what is known of b"
    reel.move_to(keys("cde"), 2, context)  # type: ignore[arg-type]
    assert reel.laid == [Laid(2, 1)]
    assert context.positions[0].tolist() == [9]
    reel.move_to(keys("xyz"), 0, context)  # type: ignore[arg-type]
    assert reel.laid == [Laid(2, 1)], "one pair always stays"


def test_which_reel_a_window_goes_on_with() -> None:
    context = Recorder()
    reels = Reels(context)  # type: ignore[arg-type]

    def hold(text: str, header: str = "h", first: int = 0) -> Reel:
        reel = Reel((header,), len(text), 5, 2, (1, 1), first=first, keys=keys(text))
        reels.hold(reel)
        return reel

    hold("abc", header="another")
    old, new = hold("xab"), hold("abc")
    assert reels.take(("h",), keys("bcd"), 8) == (new, 2)
    assert reels.take(("h",), keys("bcd"), 8) == (old, 1), "what was taken is gone"
    assert reels.take(("h",), keys("bcd"), 8) is None
    long = hold("abc", first=5)
    assert reels.take(("h",), keys("bcd"), 8) is None, "nine pairs from the first"
    assert reels.take(("h",), keys("bcd"), 9) == (long, 2)
    hold("abc")
    context.shared = True
    assert reels.take(("h",), keys("bcd"), 9) is None, "an open scene looks at it"
    for _ in range(9):
        hold("abcd")
    assert context.dropped, "so many are held and no more"


def test_an_overlapping_window_needs_the_vit_for_its_new_pair_alone(engine: Engine) -> None:
    engine.forget()
    engine.look(film(1, 2, 3), budget=SMALL).close()
    with engine.look(film(2, 3, 4), budget=SMALL) as scene:
        again = scene.logits(QUESTION)[0]
        assert scene.savings is not None
        assert (scene.savings.pairs, scene.savings.remembered) == (3, 2)
        assert scene.usage.visual_tokens == 192
    engine.forget()
    with engine.look(film(2, 3, 4), budget=SMALL) as scene:
        assert scene.savings is not None and scene.savings.remembered == 0
        assert kl(scene.logits(QUESTION)[0], again) < 1e-6, "but for where the cells lie"


def test_static_pairs_are_left_out_and_the_others_keep_their_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid: list[np.ndarray] = []
    context = engine._loaded.context
    real = type(context).decode_visual

    def spy(self: Any, sequence: int, embeddings: Any, positions: Any, check: Any) -> None:
        laid.append(positions)
        real(self, sequence, embeddings, positions, check)

    monkeypatch.setattr(type(context), "decode_visual", spy)
    clip = still_film(1, 1, 2)
    with engine.look(clip, budget=SMALL) as scene:
        whole_position = scene._prefilled.position
    with engine.look(clip, budget=SMALL, economy="live") as scene:
        assert scene.savings is not None and scene.savings.static == 1
        assert scene.usage.visual_tokens == 128
        assert scene._prefilled.position == whole_position, "text goes on where it would"
        assert np.isfinite(scene.logits(QUESTION)).all()
    whole, part = laid
    assert np.array_equal(part, np.delete(whole, np.s_[64:128], axis=1))


def test_coarse_pairs_have_a_quarter_of_the_tokens_amid_those_of_the_whole(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid: list[np.ndarray] = []
    context = engine._loaded.context
    real = type(context).decode_visual

    def spy(self: Any, sequence: int, embeddings: Any, positions: Any, check: Any) -> None:
        laid.append(positions)
        real(self, sequence, embeddings, positions, check)

    monkeypatch.setattr(type(context), "decode_visual", spy)
    clip = still_film(1, 1, 2)
    economy = Economy(coarse_below=8)
    with engine.look(clip, budget=SMALL) as scene:
        whole_position = scene._prefilled.position
    for _ in range(2):  # what was encoded small is known small
        with engine.look(clip, budget=SMALL, economy=economy) as scene:
            assert scene.savings is not None
            assert (scene.savings.coarse, scene.savings.static) == (1, 0)
            assert scene.usage.visual_tokens == 64 + 16 + 64
            assert scene._prefilled.position == whole_position
            assert np.isfinite(scene.logits(QUESTION)).all()
    assert scene.savings.remembered == 3
    whole, mixed, _ = laid
    assert np.array_equal(mixed[:, :64], whole[:, :64])
    assert np.array_equal(mixed[:, 80:], whole[:, 128:])
    time, row, column = mixed[:, 64:80] - whole[:, [64]]
    assert set(time) == {0} and row[::4].tolist() == [1, 3, 5, 7] == column[:4].tolist()
    lookout = engine._loaded.lookout
    try:
        lookout.control = np.random.default_rng(1)
        with engine.look(clip, budget=SMALL, economy=economy) as scene:
            assert scene.savings is not None and scene.savings.coarse == 1
    finally:
        lookout.control = None


def test_an_economy_that_finds_nothing_changes_nothing(engine: Engine) -> None:
    with engine.look(film(1, 2, 3), budget=SMALL) as scene:
        exact = scene.logits(QUESTION)[0]
    with engine.look(film(1, 2, 3), budget=SMALL, economy="live") as scene:
        assert kl(scene.logits(QUESTION)[0], exact) < 1e-6


def test_pruned_tokens_are_gone_and_the_first_pair_is_whole(engine: Engine) -> None:
    economy = Economy(prune_share=0.5)
    with engine.look(film(1, 2, 3), budget=SMALL, economy=economy) as scene:
        assert scene.usage.visual_tokens == 96
        assert scene.savings is not None and scene.savings.pruned_tokens == 96
        assert scene.ask(QUESTION, budget=Budget(answer_tokens=2)).usage.completion_tokens


def test_the_control_leaves_out_as_much_by_chance(engine: Engine) -> None:
    lookout = engine._loaded.lookout
    economy = Economy(static_below=8, prune_share=0.5)
    seen = set()
    try:
        for seed in range(4):
            lookout.control = np.random.default_rng(seed)
            with engine.look(still_film(1, 2, 2), budget=SMALL, economy=economy) as scene:
                assert scene.savings is not None
                assert scene.savings.static == 1
                seen.add(scene._prefilled.tokens)
    finally:
        lookout.control = None
    assert len(seen) == 1


def test_a_streamed_window_computes_its_new_pair_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.forget()
    context = engine._loaded.context
    free = context.free_cells
    economy = Economy(streaming=5)
    with engine.look(film(1, 2, 3), budget=SMALL, economy=economy) as scene:
        first = scene.logits(QUESTION)[0]
    with engine.look(film(1, 2, 3), budget=SMALL) as scene:
        assert kl(first, scene.logits(QUESTION)[0]) < 1e-3, "the first window is as any other"
    decoded: list[int] = []
    real = type(context).decode_visual

    def spy(self: Any, sequence: int, embeddings: Any, *rest: Any) -> None:
        decoded.append(len(embeddings))
        real(self, sequence, embeddings, *rest)

    monkeypatch.setattr(type(context), "decode_visual", spy)
    with engine.look(film(2, 3, 4), budget=SMALL, economy=economy) as scene:
        assert decoded == [64]
        assert scene.savings is not None and scene.savings.streamed == 2
        usage = scene.usage
        assert usage.visual_tokens == 192
        assert usage.cached_tokens == usage.prompt_tokens - 64
        streamed = scene.logits(QUESTION)[0]
    with engine.look(film(3, 4, 5), budget=SMALL, economy=economy) as scene:
        assert scene.savings is not None and scene.savings.streamed == 2
    with engine.look(film(4, 5, 6), budget=SMALL, economy=economy) as scene:
        assert scene.savings is not None and scene.savings.streamed == 0, "begun anew"
    monkeypatch.undo()
    with engine.look(film(2, 3, 4), budget=SMALL) as scene:
        fresh = scene.logits(QUESTION)[0]
    assert np.isfinite(streamed).all() and kl(streamed, fresh) < kl(first, fresh) + 0.1
    engine.forget()
    assert context.free_cells >= free - 64, "all cells were given back, but for a prompt's"


def test_streaming_from_an_open_scene_leaves_it_alone(engine: Engine) -> None:
    economy = Economy(streaming=8)
    engine.forget()
    with engine.look(film(1, 2, 3), budget=SMALL, economy=economy) as first:
        before = first.logits(QUESTION)[0]
        with engine.look(film(2, 3, 4), budget=SMALL, economy=economy) as second:
            assert second.savings is not None and second.savings.streamed == 0
        assert np.array_equal(first.logits(QUESTION)[0], before)


def test_a_video_that_may_go_on_gives_way_to_what_is_asked(engine: Engine) -> None:
    engine.forget()
    economy = Economy(streaming=8)
    engine.look(film(1, 2, 3), budget=SMALL, economy=economy).close()
    with engine.look(film(5), budget=SMALL) as scene:  # after it, the worker has closed the first
        assert scene.complete
    context = engine._loaded.context
    context.reserve(context.free_cells + 16)
    with engine.look(film(2, 3, 4), budget=SMALL, economy=economy) as scene:
        assert scene.savings is not None and scene.savings.streamed == 0


def test_pictures_are_looked_at_whole(engine: Engine) -> None:
    apart = Clip.from_images([waves(1), waves(1)])
    with engine.look(apart, economy="live", budget=SMALL) as scene:
        assert scene.savings is None
        assert scene.clip is not None
        assert scene.usage.visual_tokens == scene.clip.visual_tokens
    one = replace(film(1), frames=film(1).frames[:1])
    with engine.look(one, economy="live", budget=SMALL) as scene:
        assert scene.savings is not None and scene.savings.static == 0
