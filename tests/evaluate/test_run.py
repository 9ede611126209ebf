from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miloco_edge import Clip, Engine
from miloco_edge.errors import ManifestError
from miloco_edge.evaluate.journal import Journal, Reply, key_of
from miloco_edge.evaluate.manifest import Item
from miloco_edge.evaluate.run import Settings, ask_all, prompt
from miloco_edge.types import Box, Span

SETTINGS = Settings(max_tokens=6, visual_tokens=64, think_tokens=6)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 255, (84, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    first, second = tmp_path / "0.png", tmp_path / "1.png"
    return [
        Item("a", "binary", (first,), "Is it red?", "yes"),
        Item("b", "exact", (first,), "What is it?", ("noise",)),
        Item("c", "binary", (second,), "Is it blue?", "no"),
        Item("d", "choice", (), "Which?", "B", options=("this", "that")),
        Item("e", "exact", (first, second), "How many?", ("2",)),
    ]


@pytest.fixture
def looks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[Clip | None]:
    """The clips that are looked at."""
    seen: list[Clip | None] = []
    look = engine.look

    def counted(clip: Clip | None = None, **options: Any) -> Any:
        seen.append(clip)
        return look(clip, **options)

    monkeypatch.setattr(engine, "look", counted)
    return seen


def ask(engine: Engine, items: Sequence[Item], settings: Settings, path: Path | None = None) -> Any:
    with Journal(path) as journal:
        return ask_all(engine, items, settings, journal)


def test_neighbours_share_a_look(
    engine: Engine, items: list[Item], looks: list[Clip | None]
) -> None:
    replies = ask(engine, items, SETTINGS)
    assert [reply.id for reply in replies] == list("abcde")
    assert [None if clip is None else len(clip.frames) for clip in looks] == [1, 1, None, 2]
    assert looks[-1] is not None and looks[-1].layout == "images"
    assert [reply.look_s is not None for reply in replies] == [True, False, True, True, True]
    assert all(reply.answer_s > 0 for reply in replies)
    assert replies[3].visual_tokens == 0 < replies[0].visual_tokens <= 64
    assert all(0 < reply.completion_tokens <= 6 for reply in replies)


def test_binary_items_are_asked_as_text_and_by_their_logits(
    engine: Engine, items: list[Item]
) -> None:
    binary, exact = ask(engine, items[:2], SETTINGS)
    assert 0 < binary.p_yes < 1
    assert 0 < binary.outside_mass < 1
    # Random weights say almost anything but yes or no.
    assert (binary.decision, binary.outside_mass > 0.5) == ("unknown", True)
    assert (exact.p_yes, exact.outside_mass, exact.decision) == (None, None, None)


def test_the_same_again_is_the_same(engine: Engine, items: list[Item]) -> None:
    first, second = (ask(engine, items, SETTINGS) for _ in range(2))
    assert [reply.text for reply in first] == [reply.text for reply in second]


def test_a_run_goes_on_where_it_was(
    engine: Engine, items: list[Item], looks: list[Clip | None], tmp_path: Path
) -> None:
    path = tmp_path / "r.journal.jsonl"
    first = ask(engine, items[:3], SETTINGS, path)
    assert len(looks) == 2
    calls: list[tuple[int, int]] = []
    with Journal(path) as journal:
        every = ask_all(engine, items, SETTINGS, journal, lambda *call: calls.append(call))
    assert every[:3] == first
    assert len(looks) == 4
    assert calls == [(3, 5), (4, 5), (5, 5)]
    assert len(path.read_text().splitlines()) == 5


def test_another_setting_clip_or_question_is_asked_anew(
    engine: Engine, items: list[Item], looks: list[Clip | None], tmp_path: Path
) -> None:
    path = tmp_path / "r.journal.jsonl"
    ask(engine, items[:1], SETTINGS, path)
    ask(engine, items[:1], replace(SETTINGS, max_tokens=5), path)
    ask(engine, [replace(items[0], question="Is it green?")], SETTINGS, path)
    Image.new("RGB", (84, 84)).save(items[0].media[0])
    ask(engine, items[:1], SETTINGS, path)
    assert len(looks) == 4
    ask(engine, items[:1], SETTINGS, path)
    assert len(looks) == 4
    ask(engine, [replace(items[0], target="no", group="g")], SETTINGS, path)
    assert len(looks) == 4, "what is judged later does not change the answer"


def test_a_calibrated_model_is_asked_anew(pair: Path, items: list[Item], tmp_path: Path) -> None:
    path, model = tmp_path / "r.journal.jsonl", tmp_path / "model"
    shutil.copytree(pair, model)
    (stated,) = model.glob("*.manifest.json")
    found = []
    for p_yes in (None, {"a": 1.0, "b": 20.0}):
        stated.write_text(json.dumps({**json.loads(stated.read_text()), "p_yes": p_yes}))
        with Engine.load(model, threads=1, context=1024) as engine:
            found += ask(engine, items[:1], SETTINGS, path)
    assert found[0].p_yes < 0.99 < found[1].p_yes
    assert len(path.read_text().splitlines()) == 2


def test_media_that_cannot_be_shown_count_and_do_not_stop_the_run(
    engine: Engine, items: list[Item]
) -> None:
    items[0].media[0].write_bytes(b"no picture")
    replies = ask(engine, items[:3], SETTINGS)
    assert replies[0].refused is not None and "0.png" in replies[0].refused
    assert (replies[0].finish_reason, replies[0].decision, replies[1].decision) == (
        "refused", "unknown", None,
    )  # fmt: skip
    assert replies[2].refused is None


def test_a_question_too_long_for_the_context_is_refused(engine: Engine, items: list[Item]) -> None:
    long = replace(items[3], question="word " * 3000)
    replies = ask(engine, [long, items[3]], SETTINGS)
    assert "expected at most" in replies[0].refused
    assert replies[1].refused is None


def test_a_deadline_makes_unread_answers(engine: Engine, items: list[Item]) -> None:
    (reply,) = ask(engine, items[:1], replace(SETTINGS, deadline=1e-6))
    assert (reply.text, reply.finish_reason, reply.p_yes) == ("", "deadline", None)


def test_thinking_is_counted(engine: Engine, items: list[Item]) -> None:
    # Random weights never write the tags.
    (thinking,) = ask(engine, items[:1], replace(SETTINGS, think=True))
    (direct,) = ask(engine, items[:1], SETTINGS)
    assert not direct.thought and not direct.own_tags
    assert not thinking.own_tags


def test_smart_home_answers_are_json(engine: Engine, items: list[Item]) -> None:
    settings = replace(SETTINGS, smart_home=True, max_tokens=100, language="zh")
    (reply,) = ask(engine, items[:1], settings)
    assert reply.text.startswith('{"result": "')
    assert 0 < reply.p_yes < 1


def test_layout_and_frames_are_those_asked_for(
    engine: Engine, looks: list[Clip | None], tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (56, 56), (30 * i, 0, 0)).save(folder / f"{i}.png")
    item = Item("f", "exact", (folder,), "?", ("x",), start=1.0, end=3.5)
    ask(engine, [item], replace(SETTINGS, frames=4, layout="images"))
    assert looks[0] is not None
    assert (len(looks[0].frames), looks[0].layout) == (4, "images")
    assert looks[0].times_s[0] >= 1.0 and looks[0].times_s[-1] <= 3.5


def test_choices_are_listed_with_their_letters(items: list[Item]) -> None:
    assert prompt(items[3]) == (
        "Which?\nA. this\nB. that\nAnswer with the option's letter from the given choices directly."
    )
    assert prompt(items[0]) == "Is it red?"


REPLY = Reply(
    "a", "[1, 2, 3, 4]", "stop", True, True, (Box("x", (1.0, 2.0, 3.0, 4.0)),), (),
    (Span("", 1.0, 2.0),), 0.5, 0.25, "yes", None, 0.5, 64, 3, 5,
)  # fmt: skip


def test_a_journal_gives_back_what_it_was_given(tmp_path: Path, items: list[Item]) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.keep("k", REPLY)
    with Journal(path) as journal:
        assert journal.find(items[0], "k") == REPLY
        assert journal.find(items[0], "other") is None
        assert journal.find(items[1], "k") is None


def test_an_unfinished_line_is_cut_off(tmp_path: Path, items: list[Item]) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.keep("k", REPLY)
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    with Journal(path) as journal:
        assert journal.find(items[0], "k") == REPLY
        journal.keep("l", REPLY)
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["k", "l"]


@pytest.mark.parametrize("line", ["{}", "[]", '{"key": "k", "id": "a"}', "no json"])
def test_what_is_no_journal_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ManifestError, match="line 1: expected an answer of an earlier run"):
        Journal(path)


def test_keys_tell_settings_apart(items: list[Item]) -> None:
    keys = {key_of(item, {"n": n}) for item in items for n in (1, 2)}
    assert len(keys) == 10
