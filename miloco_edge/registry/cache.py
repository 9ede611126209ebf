"""What of the hub is on this machine: huggingface_hub's cache, and our record of each pull.

The cache is huggingface_hub's own, shared with every other program that uses it. Beside a
repository's blobs and snapshots we keep one small file, `miloco-edge.json`, of what was pulled:
the pinned commit, sizes, the checksums that the hub reported, and the licence that was accepted.
It goes when the repository is removed from the cache.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from miloco_edge.errors import ModelMismatchError
from miloco_edge.registry.whole import write_whole

RECORD = "miloco-edge.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PulledFile:
    """One file as the hub described it; `sha256` is None for files too small for the hub's LFS."""

    bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Pull:
    """What was pulled of one commit of a repository."""

    repo: str
    revision: str
    """The commit that the files are pinned to."""
    asked: str
    """What was asked for: a branch, a tag or a commit."""
    time: str
    """RFC 3339, when it was last pulled."""
    licence: str | None
    accepted: bool
    files: Mapping[str, PulledFile]


def cache_folder() -> Path:
    """huggingface_hub's cache, by its own environment: HF_HUB_CACHE, else HF_HOME/hub."""
    if explicit := os.environ.get("HF_HUB_CACHE"):
        return Path(explicit).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE).expanduser()


def repo_folder(repo: str) -> Path:
    """Where the cache keeps `repo` (org/name)."""
    return cache_folder() / ("models--" + repo.replace("/", "--"))


def pulls_of(repo: str) -> tuple[Pull, ...]:
    """Our records of `repo`, the latest pull last; empty where it was never pulled.

    Raises ModelMismatchError where the record is damaged.
    """
    return _read(repo_folder(repo) / RECORD)


def all_pulls() -> Iterator[Pull]:
    """The latest pull of every repository that has one."""
    for path in sorted(cache_folder().glob(f"models--*/{RECORD}")):
        if pulls := _read(path):
            yield pulls[-1]


def _read(path: Path) -> tuple[Pull, ...]:
    try:
        return tuple(_pull(entry) for entry in json.loads(path.read_text("utf-8"))["pulls"])
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelMismatchError(
            path, f"expected a record of pulls, got {type(error).__name__}: {error}",
            hint=f"remove {path} and pull again",
        ) from None  # fmt: skip


def _pull(entry: dict[str, Any]) -> Pull:
    files = {name: PulledFile(**file) for name, file in entry["files"].items()}
    return Pull(**{**entry, "files": files})


def record(pull: Pull) -> None:
    """Write `pull` down as the latest; files pulled of the same commit before stay in it."""
    others = []
    for other in pulls_of(pull.repo):
        if other.revision == pull.revision:
            pull = Pull(**{**vars(pull), "files": {**other.files, **pull.files}})
        else:
            others.append(other)
    document = {"pulls": [asdict(entry) for entry in (*others, pull)]}
    write_whole(repo_folder(pull.repo) / RECORD, json.dumps(document, indent=2) + "\n")


def snapshot(repo: str) -> Path | None:
    """The folder with the files of `repo`: of its latest pull, else of its main branch.

    The second is what other programs fetched into the same cache.
    """
    folder = repo_folder(repo)
    pulls = pulls_of(repo)
    main = folder / "refs" / "main"
    if pulls:
        revision = pulls[-1].revision
    elif main.is_file():
        revision = main.read_text("utf-8").strip()
    else:
        return None
    found = folder / "snapshots" / revision
    return found if found.is_dir() else None


def revision_of(path: Path) -> str | None:
    """The commit that a file in the cache belongs to; None for files elsewhere."""
    for parent in path.parents:
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            return parent.name
    return None


def checksum_of(path: Path) -> str | None:
    """The sha256 that the hub reported for a file in the cache; None where it is not known.

    From our record, else from the name of the blob that the cache links to, which for large files
    is the hub's checksum.
    """
    revision = revision_of(path)
    if revision is None:
        return None
    folder = next(parent for parent in path.parents if parent.name == revision)
    name = path.relative_to(folder).as_posix()
    for pull in _read(folder.parents[1] / RECORD):
        if pull.revision == revision and name in pull.files:
            return pull.files[name].sha256
    blob = path.resolve().name
    return blob if _SHA256.fullmatch(blob) else None
