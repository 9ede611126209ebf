"""Calibration end to end: what it counts, resuming, merging, mixing, and bad input."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.synthesize import TINY, synthesize
from miloco_edge import Engine
from miloco_edge.errors import NonFiniteError
from miloco_edge.registry import read_header
from quantize import quantize
from quantize.calibration import Calibration, Showing, calibrate, state_path
from quantize.clips import QUESTIONS, Ask, Item, read_items
from quantize.errors import ImatrixError, NotFoundError, RefusedError
from quantize.imatrix import read_imatrix
from quantize.moments import Columns, Model, Moments, mix, of_clip, read_moments, write_moments

MODEL = Model("tiny", "BF16", "a" * 64, "b" * 64)
SHOWING = Showing(visual_tokens=64, answer_tokens=4, thinking_tokens=4)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three pictures of different sizes."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(3):
        y, x = np.mgrid[0 : 112 + 28 * i, 0:140]
        pixels = np.stack([x + 40 * i, y * 2, x + y], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def run(pair: Path, out: Path, **options: Any) -> Calibration:
    options = {"showing": SHOWING, "threads": 1, "context": 1024, **options}
    return calibrate(pair, out, **options)


def states_equal(a: Path, b: Path) -> bool:
    first, second = read_moments(a), read_moments(b)
    return (first.model, first.clips, first.sums.keys()) == (
        second.model, second.clips, second.sums.keys(),
    ) and all(
        columns.rows == second.sums[key].rows
        and np.array_equal(columns.sums, second.sums[key].sums)
        for key, columns in first.sums.items()
    )  # fmt: skip


def test_an_imatrix_of_both_files(pair: Path, clips: Path, tmp_path: Path) -> None:
    done = run(pair, tmp_path / "new" / "a.gguf", clips=clips)
    imatrix = read_imatrix(done.out)
    assert (done.seen, done.held, dict(done.skipped)) == (3, 0, {})
    columns = {
        tensor.name: tensor.shape
        for path in pair.glob("*.gguf")
        for tensor in read_header(path).tensors
        if len(tensor.shape) == 2
        and not tensor.name.startswith(("output", "token_embd", "v.patch_embd"))
    }
    assert imatrix.entries.keys() == columns.keys()
    assert all(len(imatrix.entries[name].sums) in shape for name, shape in columns.items())
    assert imatrix.datasets == ("clips: 3 clips, visual weight 0.5",)
    assert imatrix.chunk_count == 3
    assert done.rows["visual"] == 20 + 25 + 30
    assert done.rows["patches"] == 4 * done.rows["visual"]
    assert imatrix.entries["mm.0.weight"].count == done.rows["visual"]


def test_the_output_is_included_on_demand(pair: Path, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.gguf"
    run(pair, out, clips=clips, limit=1, outputs=True)
    assert "output.weight" in read_imatrix(out).entries


def test_resumed_and_merged_runs_equal_a_whole_one(
    pair: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts, rest = (tmp_path / f"{name}.gguf" for name in ("whole", "parts", "rest"))
    run(pair, whole, clips=clips)
    first = run(pair, parts, clips=clips, limit=2)
    assert (first.seen, first.held) == (2, 0)
    shutil.copy(state_path(parts), tmp_path / "two.npz")

    second = run(pair, parts, clips=clips)
    assert (second.seen, second.held) == (1, 2)
    assert states_equal(state_path(whole), state_path(parts))

    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(clips / "2.png", one)
    run(pair, rest, clips=one)
    monkeypatch.setattr(Engine, "load", lambda *_, **__: pytest.fail("nothing is new"))
    merged = run(pair, tmp_path / "merged.gguf", merge=[rest, tmp_path / "two.npz"])
    assert (merged.seen, merged.held) == (0, 3)
    assert states_equal(state_path(whole), merged.state)
    again = run(pair, tmp_path / "merged.gguf", merge=[rest, tmp_path / "two.npz"])
    assert again.held == 3
    # The same files under other names are the same clips.
    run(pair, parts, clips=Path(shutil.copytree(clips, tmp_path / "elsewhere")))
    entries = [read_imatrix(path).entries for path in (whole, parts, merged.out)]
    for name, entry in entries[0].items():
        for others in entries[1:]:
            np.testing.assert_array_equal(entry.sums, others[name].sums)


def test_the_weight_is_changed_without_running(
    pair: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.gguf"
    run(pair, out, clips=clips)
    monkeypatch.setattr(Engine, "load", lambda *_, **__: pytest.fail("nothing is new"))
    sums = read_moments(state_path(out)).sums
    name = "blk.1.ffn_down.weight"
    for weight in (0.0, 0.25, 1.0):
        run(pair, out, visual_weight=weight)
        entry = read_imatrix(out).entries[name]
        text, visual = sums["text", name], sums["visual", name]
        expected = (1 - weight) * text.sums / text.rows + weight * visual.sums / visual.rows
        np.testing.assert_allclose(entry.sums / entry.count, expected, rtol=1e-6)
        assert entry.count == text.rows + visual.rows


def test_a_manifest_gives_questions_stretches_and_targets(
    pair: Path, clips: Path, tmp_path: Path
) -> None:
    video = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"
    shutil.copy(video, clips)
    lines = [
        {"media": "ball.mp4", "start": 0, "end": 2, "question": "Who?", "target": "A man"},
        {"media": "ball.mp4", "start": 0, "end": 2, "question": "What?", "target": None},
        {"media": "ball.mp4", "start": 2, "end": None, "question": "Who?", "target": True},
        {"media": "0.png", "question": "What?", "target": ["a cat", "cat"]},
    ]
    manifest = clips / "clips.jsonl"
    manifest.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    first, second, third = read_items(manifest)
    assert first == Item(
        clips / "ball.mp4", "ball.mp4", (Ask("Who?", "A man"), Ask("What?")), 0.0, 2.0
    )
    assert (second.asks, third.asks) == ((Ask("Who?", "true"),), (Ask("What?", "a cat"),))
    long = [{**line, "target": "A man " * 40} if line["question"] == "Who?" else line
            for line in lines]  # fmt: skip
    short = run(pair, tmp_path / "a.gguf", clips=manifest)
    manifest.write_text("\n".join(json.dumps(line) for line in long))
    longer = run(pair, tmp_path / "b.gguf", clips=manifest)
    assert short.seen == longer.seen == 3
    assert longer.rows["text"] > short.rows["text"] + 2 * 40
    assert longer.rows["visual"] == short.rows["visual"]


def test_questions_do_not_depend_on_other_files(clips: Path) -> None:
    before = {item.name: item.asks for item in read_items(clips)}
    Image.new("RGB", (56, 56)).save(clips / "00.png")
    (clips / "notes.txt").write_text("not a clip")
    (clips / ".hidden.png").write_bytes(b"")
    after = {item.name: item.asks for item in read_items(clips)}
    assert after.keys() == before.keys() | {"00.png"}
    assert all(after[name] == asks for name, asks in before.items())
    assert {tuple(ask.question for ask in asks) for asks in after.values()} <= set(QUESTIONS)


def test_unreadable_media_are_skipped(
    pair: Path, clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (clips / "broken.mp4").write_text("no video")
    with caplog.at_level(logging.WARNING, "miloco_edge"):
        done = run(pair, tmp_path / "a.gguf", clips=clips)
    assert (done.seen, list(done.skipped)) == (3, ["broken.mp4"])
    assert "skipped broken.mp4: " in caplog.text
    bad = tmp_path / "bad"
    bad.mkdir()
    shutil.move(clips / "broken.mp4", bad)
    with pytest.raises(RefusedError, match="expected clips that can be read, got none: broken"):
        run(pair, tmp_path / "b.gguf", clips=bad)
    assert not (tmp_path / "b.gguf").exists()
    assert not state_path(tmp_path / "b.gguf").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_what_was_seen_is_kept(
    pair: Path,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException],
) -> None:
    out, whole = tmp_path / "a.gguf", tmp_path / "whole.gguf"
    real, looks = Engine.look, []

    def look(*args: Any, **options: Any) -> Any:
        looks.append(args)
        if len(looks) == 3:
            raise stop
        return real(*args, **options)

    monkeypatch.setattr(Engine, "look", look)
    with pytest.raises(stop):
        run(pair, out, clips=clips)
    assert not out.exists()
    monkeypatch.undo()
    done = run(pair, out, clips=clips)
    assert (done.seen, done.held) == (1, 2)
    run(pair, whole, clips=clips)
    assert states_equal(state_path(out), state_path(whole))


def test_the_state_is_saved_on_the_way(pair: Path, clips: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "a.gguf", []

    def progress(done: int, total: int) -> None:
        held = len(read_moments(state_path(out)).clips) if state_path(out).exists() else 0
        seen.append((done, total, held))

    run(pair, out, clips=clips, save_every=2, progress=progress)
    assert seen == [(1, 3, 0), (2, 3, 2), (3, 3, 2)]


def test_a_state_of_another_model_is_refused(pair: Path, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.gguf"
    run(pair, out, clips=clips, limit=1)
    synthesize(tmp_path / "other", TINY, seed=5)
    quantize(tmp_path / "other", tmp_path / "pair", recipe="bf16")
    with pytest.raises(ImatrixError, match="expected sums of other-bf16 BF16") as caught:
        run(tmp_path / "pair", out, clips=clips)
    assert "--restart" in (caught.value.hint or "")
    with pytest.raises(ImatrixError, match="expected sums of other-bf16 BF16"):
        run(tmp_path / "pair", tmp_path / "b.gguf", clips=clips, merge=[out])
    run(tmp_path / "pair", out, clips=clips, limit=1, restart=True)
    assert read_moments(state_path(out)).model.name == "other-bf16"


def test_clips_count_once(pair: Path, clips: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    run(pair, a, clips=clips, limit=2)
    with pytest.raises(ImatrixError, match="to have been shown with"):
        run(pair, a, clips=clips, showing=Showing(32, 4, 4))
    with pytest.raises(ImatrixError, match=r"to have been shown with .*static_below"):
        run(pair, a, clips=clips, economy="live")
    shutil.copy(clips / "0.png", clips / "z.png")
    (clips / "1.png").unlink()
    run(pair, b, clips=clips)
    with pytest.raises(ImatrixError, match="got 1 of 3 twice"):
        run(pair, tmp_path / "c.gguf", merge=[a, b])


def test_a_quantized_model(checkpoint: Path, clips: Path, tmp_path: Path) -> None:
    quantize(checkpoint, tmp_path / "pair", recipe="q4_0", mmproj_type="q8_0")
    done = run(tmp_path / "pair", tmp_path / "a.gguf", clips=clips, limit=1)
    assert (done.model.file_type, done.tensors) == ("Q4_0", 51)


def test_nan_is_named_and_the_clips_before_it_are_kept(
    pair: Path, clips: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pair, tmp_path / "pair"))
    text = next(p for p in folder.glob("*.gguf") if not p.name.startswith("mmproj"))
    header = read_header(text)
    token = list(header.metadata["tokenizer.ggml.tokens"]).index("~")
    embeddings = next(t for t in header.tensors if t.name == "token_embd.weight")
    with text.open("r+b") as file:
        file.seek(header.data_offset + embeddings.offset + token * 2 * 256)
        file.write(b"\xc0\x7f" * 256)
    lines = [{"media": "0.png", "question": "Who?"}, {"media": "1.png", "question": "~"}]
    manifest = clips / "clips.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(NonFiniteError, match=r"input of blk\.0\.attn_[qkv]\.weight"):
        run(folder, tmp_path / "a.gguf", clips=manifest)
    assert not (tmp_path / "a.gguf").exists()
    assert len(read_moments(state_path(tmp_path / "a.gguf")).clips) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 2: expected a JSON object, got "),
        ("{", "line 2: expected a JSON object, got JSONDecodeError"),
        ('{"media": "0.png"}', "line 2: expected media, question, .* KeyError: 'question'"),
        ('{"media": 1, "question": "?"}', "media and question must be text"),
        ('{"media": "0.png", "question": "?", "start": -1}', "expected seconds, got -1"),
        ('{"media": "0.png", "question": "?", "end": NaN}', "expected seconds, got nan"),
        ("\xff", "line 2: expected a JSON object"),
    ],
)
def test_manifests_that_cannot_be_read(tmp_path: Path, line: str, message: str) -> None:
    manifest = tmp_path / "clips.jsonl"
    manifest.write_bytes(b"\n" + line.encode("latin-1"))
    with pytest.raises(RefusedError, match=message):
        read_items(manifest)


def test_nothing_to_see(pair: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_items(tmp_path / "nowhere")
    with pytest.raises(RefusedError, match="expected videos or pictures, got none"):
        read_items(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(RefusedError, match="got none"):
        read_items(tmp_path / "empty.jsonl")
    with pytest.raises(RefusedError, match="got none: none was given"):
        run(pair, tmp_path / "a.gguf")
    with pytest.raises(NotFoundError, match="expected the state of a calibration"):
        run(pair, tmp_path / "a.gguf", merge=[tmp_path / "b.gguf"])


def moments(**sums: tuple[str, list[float], int]) -> Moments:
    return Moments(
        MODEL,
        {"clip": "shown"},
        {(m, f"{name}.weight"): Columns(np.array(v, np.float64), n)
         for name, (m, v, n) in sums.items()},
    )  # fmt: skip


def test_a_weight_that_one_modality_reaches_takes_its_mean() -> None:
    it = mix(moments(seen=("visual", [4, 8], 4), said=("text", [9], 3)), 0.1, dataset="d")
    assert it.entries["seen.weight"].sums.tolist() == [4, 8]
    assert it.entries["said.weight"].sums.tolist() == [9]
    assert it.entries["seen.weight"].count == 4


def test_adding_up_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    clips = [
        of_clip(MODEL, str(i), "", {("text", "a"): Columns(rng.gamma(1, 10.0**s, 64), 10)})
        for i, s in enumerate(rng.integers(0, 3, 200))
    ]
    empty = Moments(MODEL, {}, {})
    forwards, backwards = empty, empty
    for clip in clips:
        forwards = forwards.plus(clip)
    for clip in reversed(clips):
        backwards = backwards.plus(clip)
    a, b = (m.sums["text", "a"] for m in (forwards, backwards))
    np.testing.assert_array_equal(a.sums, b.sums)
    assert a.rows == b.rows == 2000


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "negative", "nan", "rows", "format"])
def test_damaged_states_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.npz"
    good = moments(a=("text", [1, 2], 3))
    write_moments(path, good)
    assert read_moments(path).clips == {"clip": "shown"}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage in ("text", "empty"):
        path.write_text("a state" if damage == "text" else "")
    elif damage in ("negative", "nan"):
        value = -1.0 if damage == "negative" else float("nan")
        write_moments(path, moments(a=("text", [1, value], 3)))
    elif damage == "rows":
        write_moments(path, moments(a=("text", [1, 2], 0)))
    else:
        np.savez(path, about=np.array('{"format": 2}'))
    with pytest.raises(ImatrixError):
        read_moments(path)


def test_a_device_profile_has_no_say(
    pair: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may name another mmproj than the one whose sums these are said to be."""
    given: list[dict[str, Any]] = []

    def load(ref: Path, **options: Any) -> Engine:
        given.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "load", load)
    with pytest.raises(KeyboardInterrupt):
        run(pair, tmp_path / "a.gguf", clips=clips)
    assert given[0]["profile"] is False
