"""What a home says of its engine reaches the child process that runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miloco_edge import Economy
from miloco_edge.engine import child_main
from miloco_edge.engine.child import ChildEngine
from miloco_edge.engine.economy import Closer
from miloco_edge.engine.local import LocalEngine
from miloco_edge.hub.connect import engine_for
from miloco_edge.hub.settings import EngineSettings, Home, JournalSettings


def told(engine: Any) -> dict[str, Any]:
    """The options as the child hears them."""
    assert isinstance(engine, ChildEngine)
    options: dict[str, Any] = json.loads(json.dumps(engine._options))
    return options


@pytest.mark.parametrize("mode", ["live", "exact"])
def test_the_mode_and_where_prompts_are_kept(mode: Any, tmp_path: Path) -> None:
    journal = JournalSettings(tmp_path / "journal.sqlite")
    home = Home(tmp_path / "home.toml", engine=EngineSettings(mode=mode), journal=journal)
    options = told(engine_for(home))
    assert options["economy"] == mode
    assert options["prefixes"] == str(tmp_path / "prefixes")


def test_live_mode_is_the_hub_s_default() -> None:
    assert EngineSettings().mode == "live"


def test_an_economy_of_one_s_own_reaches_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    economy = Economy(static_below=4.0, closer=Closer(share=0.5))
    given: dict[str, Any] = {}
    monkeypatch.setattr(LocalEngine, "of", lambda ref, **options: given.update(options, ref=ref))
    child_main._make(told(ChildEngine("demo", economy=economy)))
    assert given == {"ref": "demo", "economy": economy}
