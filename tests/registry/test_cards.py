"""The cards of models/ are well written, and are found in a wheel too."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from miloco_edge.errors import ModelMismatchError
from miloco_edge.registry import cards
from miloco_edge.registry.cards import load_cards, read_card


def test_every_card_can_be_read() -> None:
    known = load_cards()
    assert {"demo", "miloco-7b", "miloco-7b-checkpoint", "mimo-vl-7b-rl-2508"} <= set(known)
    repos = [card.repo for card in known.values() if card.repo]
    assert len(repos) == len(set(repos))
    for card in known.values():
        assert card.title
        assert (card.text is None) == (card.mmproj is None)


def test_no_card_states_a_checksum_or_a_revision() -> None:
    for path in cards.cards_folder().glob("*.toml"):
        text = path.read_text("utf-8").lower()
        assert "sha256" not in text
        assert "revision" not in text


def test_the_published_scores() -> None:
    pair, checkpoint = load_cards()["miloco-7b"], load_cards()["miloco-7b-checkpoint"]
    assert pair.scores == checkpoint.scores
    scenes, general = pair.scores
    assert scenes.models[-1] == "MiMo-VL-Miloco-7B"
    assert dict(scenes.rows)["Shaka"] == (33.3, 70.1, 67.4, 88.3)
    assert "private" in scenes.note
    assert dict(general.rows)["Video-MME"] == (68.0,)
    assert any("No accuracy was published" in note for note in pair.notes)


def test_the_recipes_of_published_files() -> None:
    known = load_cards()
    assert known["miloco-7b"].recipe == ("q4_0", "bf16")
    folder = known["demo"].folder
    assert folder is not None
    (manifest,) = folder.glob("*.manifest.json")
    made = json.loads(manifest.read_text("utf-8"))
    assert known["demo"].recipe == (made["recipe"], made["outputs"][1]["file"][-9:-5]), "as made"


def test_miloco_must_be_accepted() -> None:
    for name in ("miloco-7b", "miloco-7b-checkpoint"):
        licence = load_cards()[name].licence
        assert licence is not None
        assert licence.accept


def test_package_data_wins_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "miloco_edge" / "registry" / "cards.py"
    monkeypatch.setattr(cards, "__file__", str(module))
    assert cards.cards_folder() == tmp_path / "models"
    (tmp_path / "miloco_edge" / "_models").mkdir(parents=True)
    assert cards.cards_folder() == tmp_path / "miloco_edge" / "_models"


def test_a_wheel_holds_every_card_and_nothing_that_was_quantized_beside_them() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    held = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    wanted = {path.name for path in (root / "models").glob("*.toml")} | {"demo"}
    assert held == {f"models/{name}": f"miloco_edge/_models/{name}" for name in wanted}
    assert "models/*.gguf" in (root / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('title = "x"', KeyError),
        ('title = "x"\nkind = "tarball"\nrepo = "a/b"', ValueError),
        ('title = "x"\nkind = "pair"', ValueError),
        ('title = "x"\nkind = "pair"\nrepo = "a/b"\nfolder = "c"', ValueError),
        ('title = "x"\nkind = "pair"\nrepo = "a/b"\n[preprocessor]\nfps = -1', ModelMismatchError),
        ('title = "x"\nkind = "pair"\nrepo = "a/b"\n[recipe]\ntext = "q4_0"', ValueError),
        (
            'title = "x"\nkind = "pair"\nrepo = "a/b"\n[[scores]]\ntitle = "t"\nsource = "s"\n'
            'note = "n"\nmodels = ["m"]\nrows = [["b", 1.0, 2.0]]',
            ValueError,
        ),
    ],
)
def test_a_badly_written_card(text: str, error: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(error):
        read_card(path)
