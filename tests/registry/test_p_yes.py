from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from miloco_edge.errors import ModelMismatchError
from miloco_edge.registry import load_cards, resolve, write_calibration
from miloco_edge.registry.cards import read_card
from miloco_edge.types import Calibration


@pytest.fixture
def home(pair: Path, tmp_path: Path) -> Path:
    """The pair without its manifest, as from a hub."""
    for path in pair.glob("*.gguf"):
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def test_a_pair_without_a_manifest_gets_one(home: Path) -> None:
    files = resolve(home)
    assert files.calibration == Calibration()
    path = write_calibration(files, Calibration(0.5, -1.25), samples=70)
    manifest = json.loads(path.read_text())
    assert manifest["p_yes"] == {"a": 0.5, "b": -1.25, "samples": 70}
    assert [output["file"] for output in manifest["outputs"]] == [
        files.text.name,
        files.mmproj.name,
    ]
    again = resolve(home)
    assert again.calibration == Calibration(0.5, -1.25)
    assert again.mmproj == files.mmproj
    write_calibration(again, Calibration(2.0, 0.0), samples=1)
    assert resolve(home).calibration == Calibration(2.0, 0.0)
    assert {p.name for p in home.iterdir()} == {path.name, files.text.name, files.mmproj.name}


def test_an_mmproj_from_elsewhere_is_not_written_down(home: Path, pair: Path) -> None:
    mmproj = next(home.glob("mmproj*"))
    mmproj.unlink()
    files = resolve(home, mmproj=next(pair.glob("mmproj*")))
    path = write_calibration(files, Calibration(), samples=1)
    assert json.loads(path.read_text())["outputs"] == [{"file": files.text.name}]


@pytest.mark.parametrize("table", ['{"a": "1"}', '{"b": true}', '{"a": 1e9}', "[1, 0]"])
def test_what_is_no_calibration_is_refused(home: Path, table: str) -> None:
    text = next(path for path in home.glob("*.gguf") if "mmproj" not in path.name)
    manifest = f'{{"outputs": [{{"file": "{text.name}"}}], "p_yes": {table}}}'
    (home / "it.manifest.json").write_text(manifest)
    with pytest.raises(ModelMismatchError, match="expected"):
        resolve(home)


def test_a_card_may_carry_one(tmp_path: Path) -> None:
    card = tmp_path / "home.toml"
    card.write_text('title = "t"\nkind = "pair"\nrepo = "a/b"\n[p_yes]\na = 0.5\nsamples = 9\n')
    read = read_card(card)
    assert read.calibration == Calibration(a=0.5)
    assert replace(read, calibration=Calibration()) != read
    assert all(abs(card.calibration.b) < 10 for card in load_cards().values())
