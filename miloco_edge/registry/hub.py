"""The hub: what a repository holds, which of its files a model needs, and fetching those.

huggingface_hub does the talking, the resuming and the caching. What is ours: the choice of the
pair, the pinned commit, the check of every large file against the hub's own sha256, and the record
of it (see `cache`). An endpoint of HF_ENDPOINT is read when it is needed, not at import.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: its HTTP client's
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from miloco_edge.errors import GGUFError, ModelNotFoundError
from miloco_edge.registry import cache
from miloco_edge.registry.cards import Licence
from miloco_edge.registry.choice import choose_mmproj, choose_text
from miloco_edge.registry.reference import Reference
from miloco_edge.registry.verify import sha256_of

PERMISSIVE = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "unlicense"}
)
"""The hub's names of licences that ask nothing of who runs a model at home."""

_SMALL_BYTES = 1 << 20
_SMALL_FILES = (
    "LICEN[CS]E*", "NOTICE*", "*.manifest.json", "config.json", "generation_config.json",
    "preprocessor_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the hub lists it."""

    name: str
    bytes: int
    sha256: str | None
    """None for files that are too small for the hub's LFS."""


@dataclass(frozen=True)
class Remote:
    """A repository at one commit."""

    repo: str
    asked: str
    revision: str
    licence: str | None
    files: tuple[RemoteFile, ...]


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE", "")
    return value.upper() in constants.ENV_VARS_TRUE_VALUES


def endpoint() -> str:
    """The hub's address."""
    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def describe(reference: Reference, revision: str | None = None) -> Remote:
    """Ask the hub what the repository of `reference` holds at `revision` (its main branch).

    Raises ModelNotFoundError where the repository, the revision or the hub cannot be reached.
    """
    assert reference.repo is not None
    with _translated(reference, revision):
        info = HfApi(endpoint=endpoint()).model_info(
            reference.repo, revision=revision, files_metadata=True, timeout=30
        )
    assert info.sha is not None
    card = info.card_data
    licence = (card.get("license_name") or card.get("license")) if card else None
    files = tuple(
        RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or ()
    )
    return Remote(reference.repo, revision or "main", info.sha, licence, files)


def choose(reference: Reference, remote: Remote) -> tuple[RemoteFile, ...]:
    """The files that the model needs: its pair and the small texts about it, or a checkpoint whole.

    Raises ModelNotFoundError where the repository does not hold exactly one such pair.
    """
    ggufs = [
        file.name for file in remote.files if file.name.endswith(".gguf") and "/" not in file.name
    ]
    card = reference.card
    if not ggufs and (card is None or card.kind == "checkpoint"):
        if any(file.name == "config.json" for file in remote.files):
            return remote.files
        raise ModelNotFoundError(
            reference.written, f"expected GGUF files or a checkpoint in {remote.repo}, got neither",
            hint=f"see {endpoint()}/{remote.repo}",
        )  # fmt: skip
    if card is not None and card.text and card.mmproj and reference.quant is None:
        pair = {card.text, card.mmproj}
        if missing := sorted(pair - set(ggufs)):
            raise ModelNotFoundError(
                reference.written,
                f"expected {missing[0]} in {remote.repo}, got {', '.join(ggufs)}",
                hint=f"choose one with {remote.repo}:QUANT",
            )  # fmt: skip
    else:
        text = choose_text(reference.written, ggufs, reference.quant)
        pair = {text, choose_mmproj(reference.written, ggufs)}
    return tuple(file for file in remote.files if file.name in pair or _is_small(file))


def _is_small(file: RemoteFile) -> bool:
    return file.bytes <= _SMALL_BYTES and any(fnmatch(file.name, name) for name in _SMALL_FILES)


def terms(reference: Reference, remote: Remote) -> Licence:
    """The licence of the weights, by the model's card, else as the hub states it."""
    if reference.card is not None and reference.card.licence is not None:
        return reference.card.licence
    name = remote.licence or "unknown"
    free = name.lower() in PERMISSIVE
    summary = "As the repository states it." if remote.licence else "The repository states none."
    return Licence(name, summary, accept=not free, url=f"{endpoint()}/{remote.repo}")


def was_accepted(remote: Remote, licence: Licence) -> bool:
    """Whether an earlier pull of this repository recorded that `licence` was accepted."""
    return any(p.accepted and p.licence == licence.id for p in cache.pulls_of(remote.repo))


def fetch(
    reference: Reference, remote: Remote, files: Sequence[RemoteFile], licence: Licence
) -> cache.Pull:
    """Download `files` at the commit of `remote`, check them, and record the pull.

    Raises ModelNotFoundError where the hub cannot be reached, GGUFError where a file is not what
    the hub says it is; that file is removed, so that the next pull fetches it again.
    """
    known = {
        name: file.sha256
        for pull in cache.pulls_of(remote.repo) if pull.revision == remote.revision
        for name, file in pull.files.items()
    }  # fmt: skip
    for file in files:
        with _translated(reference, remote.revision):
            path = Path(
                hf_hub_download(
                    remote.repo, file.name, revision=remote.revision,
                    cache_dir=cache.cache_folder(), endpoint=endpoint(),
                )
            )  # fmt: skip
        if file.sha256 is not None and known.get(file.name) != file.sha256:
            _check(path, file)
    pull = cache.Pull(
        repo=remote.repo,
        revision=remote.revision,
        asked=remote.asked,
        time=datetime.now().astimezone().isoformat(timespec="seconds"),
        licence=licence.id,
        accepted=licence.accept,
        files={file.name: cache.PulledFile(file.bytes, file.sha256) for file in files},
    )
    cache.record(pull)
    return pull


def _check(path: Path, file: RemoteFile) -> None:
    found = sha256_of(path)
    if found != file.sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise GGUFError(
            path, f"expected sha256 {file.sha256}, got {found}",
            hint="the download was damaged and has been removed; pull again",
        )  # fmt: skip


@dataclass(frozen=True)
class Removal:
    """What removing a repository from the cache would free."""

    repo: str
    revisions: tuple[str, ...]
    bytes: int


def plan_removal(reference: Reference) -> Removal:
    """What of `reference` is in the cache. Raises ModelNotFoundError where nothing is."""
    repos = scan_cache_dir(cache.cache_folder()).repos if cache.cache_folder().is_dir() else ()
    for repo in repos:
        if repo.repo_type == "model" and repo.repo_id == reference.repo:
            revisions = tuple(sorted(revision.commit_hash for revision in repo.revisions))
            return Removal(repo.repo_id, revisions, repo.size_on_disk)
    raise ModelNotFoundError(
        reference.written, f"expected {reference.repo} in the cache, got nothing",
        hint="`miloco-edge list` shows what is there",
    )  # fmt: skip


def remove(removal: Removal) -> None:
    """Delete every revision of the repository from the cache, our record with it."""
    scan_cache_dir(cache.cache_folder()).delete_revisions(*removal.revisions).execute()


@contextmanager
def _translated(reference: Reference, revision: str | None) -> Iterator[None]:
    """Turn huggingface_hub's errors into ours, with the next thing to do."""
    ref, repo = reference.written, reference.repo

    def not_found(message: str, hint: str) -> ModelNotFoundError:
        return ModelNotFoundError(ref, message, hint=hint)

    try:
        yield
    except GatedRepoError:
        raise not_found(
            f"expected access to {repo}, got a gated repository",
            f"ask for access at {endpoint()}/{repo}, then set HF_TOKEN",
        ) from None
    except RepositoryNotFoundError:
        raise not_found(
            f"expected the repository {repo} at {endpoint()}, got none",
            "check its spelling; a private one needs HF_TOKEN",
        ) from None
    except RevisionNotFoundError:
        raise not_found(
            f"expected revision {revision} of {repo}, got none",
            f"see {endpoint()}/{repo}/commits/main",
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise not_found(
            f"expected {repo} from {endpoint()}, got no connection",
            "check the network, or use what has been pulled: `miloco-edge list`",
        ) from None
    except EntryNotFoundError as error:
        raise not_found(f"expected a file of {repo}, got none: {error}", "pull again") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise not_found(
            f"expected {repo} from {endpoint()}, got {status}", "try again later"
        ) from None
    except FileMetadataError as error:
        raise not_found(
            f"{endpoint()} does not answer as a hub: {error}", "check HF_ENDPOINT"
        ) from None
    except HFValidationError as error:
        raise not_found(f"expected org/repo, got {repo}: {error}", "check its spelling") from None
    except HTTPError as error:
        raise not_found(
            f"expected {repo} from {endpoint()}, got {type(error).__name__}: {error}",
            "check the network and HF_ENDPOINT",
        ) from None
