from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.agreement import agreement
from miloco_edge import Engine
from miloco_edge.evaluate.journal import Journal
from miloco_edge.evaluate.manifest import Item
from miloco_edge.evaluate.run import Settings, ask_all

SETTINGS = Settings(max_tokens=3)
ITEMS = [
    Item("a", "exact", (), "Who?", ("nobody",)),
    Item("b", "binary", (), "Is it?", "yes"),
    Item("c", "temporal", (), "When?", (0.0, 1.0)),
    Item("d", "exact", (), "What?", ("noise",)),
]


def test_answers_are_compared_by_words_and_by_what_they_are_worth(
    engine: Engine, tmp_path: Path
) -> None:
    with Journal(None) as journal:
        ours = {reply.id: reply.text for reply in ask_all(engine, ITEMS, SETTINGS, journal)}
    asked: list[str] = []

    def theirs(item: Item) -> str:
        asked.append(item.id)
        # The same but for case; unreadable, too; another time; right where we are wrong.
        said = {"a": ours["a"].upper() + " ", "b": "perhaps", "c": "1 s - 2 s", "d": "Noise."}
        return said[item.id]

    found = agreement(engine, theirs, ITEMS, SETTINGS, tmp_path / "work")
    assert (found.items, found.same_text, found.judged_alike) == (4, 0.25, 0.5)
    assert [each.id for each in found.differences] == ["b", "c", "d"]
    assert [each.judged_alike for each in found.differences] == [True, False, False]
    assert found.differences[1].theirs == "1 s - 2 s"
    assert asked == ["a", "b", "c", "d"]
    assert agreement(engine, theirs, ITEMS, SETTINGS, tmp_path / "work") == found
    assert len(asked) == 4, "what was answered is kept"


def test_what_stops_the_other_side_loses_nothing(engine: Engine, tmp_path: Path) -> None:
    def stops(item: Item) -> str:
        if item.id == "b":
            raise KeyboardInterrupt
        return "x"

    with pytest.raises(KeyboardInterrupt):
        agreement(engine, stops, ITEMS, SETTINGS, tmp_path)
    asked: list[str] = []

    def theirs(item: Item) -> str:
        asked.append(item.id)
        return "x"

    agreement(engine, theirs, ITEMS, SETTINGS, tmp_path)
    assert asked == ["b", "c", "d"]
