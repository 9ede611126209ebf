"""What is drawn, and the words for it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miloco_edge.errors import ManifestError
from miloco_edge.page import words
from miloco_edge.page.chat import messages
from miloco_edge.page.draw import evidence, picture_url, stages, timing_bar
from miloco_edge.page.layers import layers
from miloco_edge.page.manifest import read_manifest
from miloco_edge.page.view import View
from miloco_edge.page.visit import Exchange, Seen
from miloco_edge.types import Answer, Timings, Usage
from miloco_edge.video import FittedClip

LOOK = Timings(video_s=0.5, vision_s=2.0, prefill_s=1.0)
ASKED = Timings(prefill_s=0.25, generate_s=1.25, total_s=1.5)
CLIP = FittedClip(
    tuple(np.full((56, 84, 3), shade, np.uint8) for shade in (10, 200)),
    (0.0, 0.5), 2.0, "video", ((640, 480),) * 2,
)  # fmt: skip
ANSWER = Answer("q", "It <b>rolls</b>.", "Hm.", "stop", Usage(), ASKED)
EXCHANGE = Exchange(
    "What <i>rolls</i>?", View(None), "done", "Hm.", "It <b>rolls</b>.",
    Seen(CLIP, LOOK, 0.5, reused=False), ANSWER, "stop", None, 6.0,
)  # fmt: skip


def test_stages_add_up_to_the_whole() -> None:
    assert EXCHANGE.seen is not None
    parts = stages(EXCHANGE.seen, ASKED, 6.0)
    assert dict(parts) == {
        "wait": 0.5, "video": 1.0, "vision": 2.0, "look": 1.0, "question": 0.25, "generate": 1.25,
    }  # fmt: skip
    assert sum(seconds for _, seconds in parts) == 6.0


def test_the_bar_is_to_scale() -> None:
    widths = re.findall(r'width="([\d.]+)"', timing_bar([("vision", 3.0), ("look", 1.0)], "en"))
    assert widths == ["750.0", "250.0"]


def test_evidence_shows_frames_with_times_and_escapes_what_was_typed() -> None:
    drawn = evidence([EXCHANGE], "en")
    assert drawn.count("<img ") == 2 and "0.50 s</figcaption>" in drawn
    assert "2 frames 84×56, 6 visual tokens" in drawn
    assert "<i>rolls" not in drawn and "&lt;i&gt;rolls" in drawn
    older = evidence([EXCHANGE, EXCHANGE], "zh")
    assert older.count("<img ") == 2, "of older answers only times"
    assert older.count("<details open") == 1
    reused = replace(EXCHANGE, seen=Seen(CLIP, Timings(), 0.0, reused=True))
    assert "the look was reused" in evidence([reused], "en")


def test_pictures_are_small_and_inline() -> None:
    url = picture_url(np.zeros((1080, 1920, 3), np.uint8))
    assert url.startswith("data:image/jpeg;base64,") and len(url) < 4000


def test_messages_fold_the_thinking_and_keep_text_as_it_is() -> None:
    user, thought, answer = messages([EXCHANGE], "zh")
    assert user == {"role": "user", "content": "What <i>rolls</i>?"}
    assert thought["metadata"] == {"title": "思考过程", "status": "done"}
    assert answer["content"] == "It <b>rolls</b>."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stage": "looking", "text": ""}, "Looking …"),
        ({"stage": "answering", "text": ""}, "…"),
        ({"finish": "cancelled", "text": "It"}, "It [stopped]"),
        ({"finish": "deadline", "text": ""}, "[out of time]"),
    ],
)
def test_messages_say_how_far_it_is(change: dict[str, str], said: str) -> None:
    assert messages([replace(EXCHANGE, **change)], "en")[-1]["content"] == said  # type: ignore[arg-type]


def test_every_word_is_there_in_both_languages() -> None:
    for key, (english, chinese) in words._WORDS.items():
        assert english and chinese, key
        assert re.search("[\u4e00-\u9fff]", chinese), key


@pytest.mark.parametrize(
    ("header", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("de,en;q=0.5", "en"), ("", "en"), ("fr", "en")],
)
def test_the_browsers_language_is_taken(header: str, language: str) -> None:
    assert words.preferred(header) == language


def test_a_manifest_is_drawn_layer_by_layer(pair: Path) -> None:
    quantized = read_manifest(next(pair.glob("*.manifest.json")))
    drawn = layers(quantized, "en")
    assert 'aria-label="text"' in drawn and 'aria-label="vision"' in drawn
    assert "attn_q" in drawn and "token_embd.weight" in drawn
    assert drawn.count("BF16") >= 10
    assert all(name in drawn for name, _, _ in quantized.files)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "nonsense", '{"recipe": 1, "outputs": [{}], "tensors": []}', "[" * 100_000,
     '{"recipe": "x", "outputs": [{"file": "a", "bytes": 1e999, "bpw": 1}], "tensors": []}',
     json.dumps({"recipe": "x", "outputs": [], "tensors": [
         {"name": "a", "type": "F32", "bytes": 1, "nmse": float("nan"), "shape": [1, 1]}]})],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match="expected a manifest"):
        read_manifest(path)


def test_a_manifest_may_hold_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    evil = "<script>alert(1)</script>"
    path.write_text(
        json.dumps(
            {
                "recipe": evil,
                "outputs": [{"file": evil, "bytes": 1, "bpw": 1}],
                "tensors": [
                    {"name": n, "type": evil, "bytes": 1, "nmse": 0, "shape": [1, 1]}
                    for n in (evil, "blk.0.attn_q.weight")
                ],
            }
        )
    )
    assert "<script" not in layers(read_manifest(path), "en")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(9 << 20)
    with pytest.raises(ManifestError, match="more than"):
        read_manifest(path)
