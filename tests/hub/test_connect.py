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
from miloco_edge.errors import ConfigError
from miloco_edge.hub import config
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


def test_an_economy_of_the_home_stands_instead_of_a_mode(tmp_path: Path) -> None:
    path = tmp_path / "home.toml"
    path.write_text(
        '[engine]\nkv_type = "q8_0"\n[engine.economy]\nstatic_below = 4\ncoarse_below = 32\n'
        "[engine.economy.closer]\nshare = 0.5\n"
    )
    home = config.read(path)
    assert home.engine.economy == Economy(4.0, 32.0, closer=Closer(share=0.5))
    options = told(engine_for(home))
    assert (options["kv_type"], options["economy"]["coarse_below"]) == ("q8_0", 32.0)
    path.write_text('[engine]\nmode = "exact"\n')
    assert config.read(path).engine.economy is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[engine.economy]\nstatic = 8", 2, "expected one of"),
        ("[engine.economy]\nprune_share = 2", 2, "expected between 0 and 1"),
        ("[engine.economy]\nstreaming = 4\ncoarse_below = 8", 2, "expected whole pairs"),
        ("[engine.economy.closer]\ndoubt = 0.9", 2, "expected from 0 to 0.5"),
        ('[engine]\nmode = "live"\n[engine.economy]\nstatic_below = 8', 3, "or mode, got both"),
    ],
)
def test_an_economy_that_makes_no_sense(text: str, line: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "home.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as raised:
        config.read(path)
    assert raised.value.line == line
