"""The cards of the known models: one TOML file each in models/, read as they are written.

A card says where a model comes from, under which licence, how it wants its pictures, and what its
makers published about it. It never states a checksum or a revision: those are the hub's, recorded
when the model is pulled.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from miloco_edge.registry.defaults import calibration_from, preprocessor_from, sampling_from
from miloco_edge.types import Calibration, Preprocessor, SamplingDefaults

Kind = Literal["pair", "checkpoint"]


@dataclass(frozen=True)
class Licence:
    """Under which terms the weights come; `accept` where they must be accepted before a pull."""

    id: str
    summary: str
    accept: bool
    url: str | None = None


@dataclass(frozen=True)
class ScoreTable:
    """Scores that the makers published: `rows` of (benchmark, one score per model)."""

    title: str
    source: str
    note: str
    models: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Card:
    """What is known of one model before any of its files is here."""

    name: str
    title: str
    kind: Kind
    repo: str | None
    """org/name on the hub; None where the files travel with the package."""
    folder: Path | None
    """Where the files of a packaged model lie."""
    text: str | None
    """The text GGUF's file name, where the repository holds several or is known to hold one."""
    mmproj: str | None
    licence: Licence | None
    published_size: str | None
    preprocessor: Preprocessor
    sampling: SamplingDefaults
    calibration: Calibration
    """Of p_yes."""
    recipe: tuple[str, str] | None
    """By which recipes text and mmproj were made, where the files that are published say so."""
    scores: tuple[ScoreTable, ...]
    notes: tuple[str, ...]


def cards_folder() -> Path:
    """The folder of the cards: package data of a wheel, models/ of a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "_models"
    return packaged if packaged.is_dir() else package.parent / "models"


@cache
def load_cards() -> Mapping[str, Card]:
    """All cards by alias, in alphabetical order."""
    paths = sorted(cards_folder().glob("*.toml"), key=lambda path: path.stem)
    return MappingProxyType({path.stem: read_card(path) for path in paths})


def read_card(path: Path) -> Card:
    """Read one card; its alias is the file's name.

    Raises ValueError, KeyError or ModelMismatchError where the card is not well written.
    """
    table = tomllib.loads(path.read_text("utf-8"))
    kind = table["kind"]
    if kind not in ("pair", "checkpoint"):
        raise ValueError(f"{path.name}: kind: expected pair or checkpoint, got {kind!r}")
    if ("repo" in table) == ("folder" in table):
        raise ValueError(f"{path.name}: expected one of repo and folder")
    files = table.get("files", {})
    licence = table.get("licence")
    return Card(
        name=path.stem,
        title=table["title"],
        kind=kind,
        repo=table.get("repo"),
        folder=path.parent / table["folder"] if "folder" in table else None,
        text=files.get("text"),
        mmproj=files.get("mmproj"),
        licence=Licence(**licence) if licence else None,
        published_size=table.get("published_size"),
        preprocessor=preprocessor_from(table.get("preprocessor"), path, Preprocessor()),
        sampling=sampling_from(table.get("sampling"), path, SamplingDefaults()),
        calibration=calibration_from(table.get("p_yes"), path, Calibration()),
        recipe=_recipe(table.get("recipe"), path),
        scores=_scores(table, path),
        notes=tuple(table.get("notes", ())),
    )


def _recipe(table: Mapping[str, Any] | None, path: Path) -> tuple[str, str] | None:
    if table is None:
        return None
    if set(table) != {"text", "mmproj"} or not all(isinstance(r, str) for r in table.values()):
        raise ValueError(f"{path.name}: recipe: expected text and mmproj, got {table!r:.60}")
    return table["text"], table["mmproj"]


def _scores(table: Mapping[str, Any], path: Path) -> tuple[ScoreTable, ...]:
    """The card's own tables, or those of the card that it names in `scores_from`."""
    if other := table.get("scores_from"):
        path = path.with_name(f"{other}.toml")
        table = tomllib.loads(path.read_text("utf-8"))
    tables = []
    for scores in table.get("scores", ()):
        models = tuple(scores["models"])
        rows = tuple((benchmark, tuple(values)) for benchmark, *values in scores["rows"])
        for benchmark, values in rows:
            if len(values) != len(models):
                raise ValueError(f"{path.name}: {benchmark}: expected {len(models)} scores")
        tables.append(ScoreTable(scores["title"], scores["source"], scores["note"], models, rows))
    return tuple(tables)


def card_of_repo(repo: str) -> Card | None:
    """The card whose files come from `repo` (org/name), if there is one."""
    return next((card for card in load_cards().values() if card.repo == repo), None)


def card_of_file(name: str) -> Card | None:
    """The card that names `name` as its text file, if there is one."""
    return next((card for card in load_cards().values() if card.text == name), None)
