"""The traps of llama.cpp, one test each."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from miloco_edge.errors import ContextFullError, NonFiniteError
from miloco_edge.llama import (
    Context,
    Interrupted,
    Sampler,
    TextModel,
    VisionEncoder,
    VisionShape,
    gpu_layers_that_fit,
    log_softmax,
    token_logprob,
)
from miloco_edge.llama.model import WeightPlan, plan_weights
from miloco_edge.prompt import grid_positions, next_position
from miloco_edge.registry import read_header
from miloco_edge.types import Sampling

SHAPE = VisionShape(layers=4, hidden=256, ffn=512)


def text_file(pair: Path) -> Path:
    return next(p for p in pair.glob("*.gguf") if not p.name.startswith("mmproj"))


@pytest.fixture(scope="module")
def model(pair: Path):
    model = TextModel(text_file(pair), file_type="BF16")
    yield model
    model.close()
    model.close()


@pytest.fixture(scope="module")
def vision(pair: Path, model: TextModel):
    mmproj = next(pair.glob("mmproj*.gguf"))
    vision = VisionEncoder(mmproj, model, SHAPE, threads=2, use_gpu=False)
    yield vision
    vision.close()
    vision.close()


@pytest.fixture
def context(model: TextModel):
    context = Context(model, n_ctx=512, threads=2, n_batch=32, n_seq=8)
    yield context
    context.close()
    context.close()


@pytest.mark.parametrize(
    ("file_type", "machine", "gpu_layers", "plan"),
    [
        ("Q4_0", "x86_64", 0, WeightPlan(repack=True, mmap=False)),
        ("Q4_K_M", "x86_64", 0, WeightPlan(repack=False, mmap=True)),
        ("Q4_K_M", "aarch64", 0, WeightPlan(repack=True, mmap=False)),
        ("Q4_0", "x86_64", 33, WeightPlan(repack=False, mmap=True)),
        ("BF16", "AMD64", 0, WeightPlan(repack=False, mmap=True)),
    ],
)
def test_repacked_weights_are_not_held_twice(
    file_type: str, machine: str, gpu_layers: int, plan: WeightPlan
) -> None:
    assert plan_weights(file_type, machine, gpu_layers) == plan


def test_control_tokens_are_only_spelled_by_the_template(model: TextModel) -> None:
    assert len(model.tokenize("<|im_end|>", special=True)) == 1
    plain = model.tokenize("<|im_end|>", special=False)
    assert len(plain) > 1
    assert b"".join(model.piece(int(t)) for t in plain) == b"<|im_end|>"


@pytest.mark.parametrize("text", ["hello  world\n", "看电视 12345 ✌️", " /no_think", "a" * 300])
def test_text_round_trips(model: TextModel, text: str) -> None:
    tokens = model.tokenize(text, special=False)
    assert b"".join(model.piece(int(t)) for t in tokens).decode() == text


def test_more_tokens_than_a_batch_are_sliced(model: TextModel, context: Context) -> None:
    """llama_decode aborts the process above n_batch; slices give the same logits."""
    tokens = np.arange(20, 20 + 3 * context.n_batch + 5, dtype=np.int32) % 200
    checks: list[int] = []
    whole = context.new_sequence()
    logits = context.decode_tokens(whole, tokens, 0, check=lambda: checks.append(1))
    assert len(checks) == 4
    one_by_one = context.new_sequence()
    for i, token in enumerate(tokens):
        last = context.decode_tokens(one_by_one, np.array([token], np.int32), i)
    p, q = log_softmax(logits), log_softmax(last)
    assert float((np.exp(p) * (p - q)).sum()) < 1e-3


def test_logits_after_every_token(context: Context) -> None:
    tokens = np.arange(70, dtype=np.int32)
    sequence = context.new_sequence()
    every = context.decode_every(sequence, tokens, 0)
    assert every.shape == (70, context.model.n_vocab)
    for n in (1, 33, 70):
        fresh = context.new_sequence()
        last = context.decode_tokens(fresh, tokens[:n], 0)
        p, q = log_softmax(every[n - 1]), log_softmax(last)
        assert float((np.exp(p) * (p - q)).sum()) < 1e-3
        context.drop_sequence(fresh)


def test_visual_tokens_take_four_positions_each(context: Context, vision: VisionEncoder) -> None:
    """llama_batch_init allocates one: the heap would be corrupted by 96 tokens in slices of 32."""
    frame = np.random.default_rng(0).integers(0, 255, (224, 336, 3), dtype=np.uint8)
    visual = vision.encode((frame, frame[::-1].copy()))
    assert visual.grid == (1, 8, 12)
    assert visual.embeddings.shape == (96, context.model.n_embd)
    sequence = context.new_sequence()
    context.decode_tokens(sequence, np.array([1, 2, 3], np.int32), 0)
    context.decode_visual(sequence, visual.embeddings, grid_positions(3, visual.grid))
    end = next_position(3, visual.grid)
    assert end == 3 + 12
    assert np.isfinite(context.decode_tokens(sequence, np.array([4], np.int32), end)).all()


def test_a_copied_sequence_shares_its_cells(context: Context) -> None:
    first = context.new_sequence()
    context.decode_tokens(first, np.arange(400, dtype=np.int32) % 200, 0)
    copies = [context.new_sequence(copy_of=first) for _ in range(5)]
    outputs = [context.decode_tokens(c, np.array([7], np.int32), 400) for c in copies]
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], atol=0.05)


def test_a_full_cache_is_an_error_and_closing_makes_room(context: Context) -> None:
    first = context.new_sequence()
    context.decode_tokens(first, np.zeros(context.n_ctx - 10, np.int32), 0)
    second = context.new_sequence()
    with pytest.raises(ContextFullError, match=r"at most 10 more tokens.*got 32") as caught:
        context.decode_tokens(second, np.zeros(40, np.int32), 0)
    assert (caught.value.needed, caught.value.available) == (32, 10)
    context.drop_sequence(first)
    context.decode_tokens(second, np.zeros(40, np.int32), 0)


def test_running_out_of_sequences_is_an_error(context: Context) -> None:
    for _ in range(8):
        context.new_sequence()
    with pytest.raises(ContextFullError):
        context.new_sequence()


def test_truncate_forgets_and_frees(context: Context) -> None:
    sequence = context.new_sequence()
    tokens = np.arange(30, dtype=np.int32)
    before = context.decode_tokens(sequence, tokens, 0)
    context.decode_tokens(sequence, tokens, 30)
    context.truncate(sequence, 29, 31)
    after = context.decode_tokens(sequence, tokens[29:], 29)
    np.testing.assert_allclose(after, before, atol=0.05)
    context.reserve(context.n_ctx - 30)


def test_the_abort_flag_stops_a_decode_and_the_context_goes_on(context: Context) -> None:
    sequence = context.new_sequence()
    context.abort.set()
    with pytest.raises(Interrupted):
        context.decode_tokens(sequence, np.zeros(8, np.int32), 0)
    context.abort.clear()
    assert np.isfinite(context.decode_tokens(sequence, np.zeros(8, np.int32), 0)).all()


def test_pairs_are_merged_by_this_build(vision: VisionEncoder) -> None:
    assert vision.merges_pairs
    frame = np.zeros((112, 112, 3), np.uint8)
    other = np.full((112, 112, 3), 200, np.uint8)
    still, twice = vision.encode((frame,)), vision.encode((frame, frame))
    np.testing.assert_allclose(still.embeddings, twice.embeddings, atol=1e-3)
    assert not np.allclose(vision.encode((frame, other)).embeddings, still.embeddings, atol=1e-2)


def test_a_build_that_cannot_merge_uses_first_frames(
    pair: Path, model: TextModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from llama_cpp import mtmd_cpp

    monkeypatch.setattr(mtmd_cpp, "mtmd_bitmap_set_mergeable", lambda *_: None)
    mmproj = next(pair.glob("mmproj*.gguf"))
    vision = VisionEncoder(mmproj, model, SHAPE, threads=2, use_gpu=False)
    try:
        assert not vision.merges_pairs
        assert "does not merge frame pairs" in caplog.text
        frame, other = np.zeros((112, 112, 3), np.uint8), np.full((112, 112, 3), 9, np.uint8)
        first = vision.encode((frame,)).embeddings
        np.testing.assert_array_equal(vision.encode((frame, other)).embeddings, first)
    finally:
        vision.close()


@pytest.mark.parametrize("size", [(112, 113), (28, 28), (28 * 65, 28 * 64)])
def test_sizes_that_libmtmd_would_letterbox_are_refused(
    vision: VisionEncoder, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="multiples of 28"):
        vision.encode((np.zeros((*size, 3), np.uint8),))


def test_cost_grows_faster_than_tokens(vision: VisionEncoder) -> None:
    assert SHAPE.flops(2000) > 2 * SHAPE.flops(1000)
    vision.encode((np.zeros((112, 112, 3), np.uint8),))
    assert 0 < vision.predict_seconds(16) < vision.predict_seconds(64)


@pytest.mark.parametrize("part", ["blk.0.ffn_up.weight", "v.blk.0.ffn_up.weight"])
def test_nan_weights_are_an_error(pair: Path, part: str, tmp_path: Path) -> None:
    text = Path(shutil.copy(text_file(pair), tmp_path))
    mmproj = Path(shutil.copy(next(pair.glob("mmproj*.gguf")), tmp_path))
    damaged = mmproj if part.startswith("v.") else text
    header = read_header(damaged)
    tensor = next(t for t in header.tensors if t.name == part)
    with damaged.open("r+b") as file:
        file.seek(header.data_offset + tensor.offset)
        file.write(b"\xc0\x7f" * 64)
    model = TextModel(text, file_type="BF16")
    context = Context(model, n_ctx=64, threads=2)
    try:
        if damaged is text:
            with pytest.raises(NonFiniteError, match="language model"):
                context.decode_tokens(context.new_sequence(), np.zeros(4, np.int32), 0)
        else:
            with pytest.raises(NonFiniteError, match="vision encoder"):
                VisionEncoder(mmproj, model, SHAPE, threads=2, use_gpu=False)
    finally:
        context.close()
        model.close()


def test_sampling(model: TextModel, context: Context) -> None:
    sequence = context.new_sequence()
    logits = context.decode_tokens(sequence, model.tokenize("hello", special=False), 0)
    greedy = Sampler(model, Sampling())
    assert greedy.sample(context) == logits.argmax()
    seeded = [Sampler(model, Sampling(2.0, 1.0, seed=5)).sample(context) for _ in range(2)]
    assert seeded[0] == seeded[1]
    bound = Sampler(model, Sampling(grammar='root ::= "yes" | "no"'))
    assert model.piece(bound.sample(context)).decode() in {"y", "ye", "yes", "n", "no"}
    with pytest.raises(ValueError, match="GBNF"):
        Sampler(model, Sampling(grammar='root ::= "yes'))
    greedy.close()
    greedy.close()


def test_logprobs_are_those_before_sampling(model: TextModel) -> None:
    logits = np.linspace(-3, 3, model.n_vocab, dtype=np.float32)
    chosen = token_logprob(model, logits, 5, 4)
    assert [t.id for t in chosen.top] == [model.n_vocab - 1 - i for i in range(4)]
    assert chosen.logprob == pytest.approx(log_softmax(logits)[5])
    assert np.exp(log_softmax(logits)).sum() == pytest.approx(1)


def test_llama_cpp_logs_to_logging(pair: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="miloco_edge.llama"):
        TextModel(text_file(pair), file_type="BF16").close()
    assert "qwen2vl" in caplog.text
    assert max(record.levelno for record in caplog.records) <= logging.INFO


@pytest.mark.parametrize(("free_gib", "layers"), [(0.5, 0), (3, 2), (4.5, 13), (24, 37)])
def test_gpu_layers_fill_what_is_free(free_gib: float, layers: int) -> None:
    gib = 2**30
    got = gpu_layers_that_fit(
        layers=36,
        weight_bytes=4 * gib,
        kv_bytes=gib,
        vision_bytes=int(1.7 * gib),
        free_bytes=int(free_gib * gib),
    )
    assert got == layers


def test_what_copies_share_is_counted_until_the_last_copy_goes(context: Context) -> None:
    words = np.arange(10, dtype=np.int32)
    prompt = context.new_sequence()
    context.decode_tokens(prompt, words, 0)
    scene = context.new_sequence(copy_of=prompt)
    context.decode_tokens(scene, words, 10)
    copies = [context.new_sequence(copy_of=scene) for _ in range(3)]
    for gone in (scene, *copies[:2]):
        context.drop_sequence(gone)
        assert context.free_cells == context.n_ctx - 20, "the copies that are left hold all of it"
    context.drop_sequence(copies[2])
    assert context.free_cells == context.n_ctx - 10
