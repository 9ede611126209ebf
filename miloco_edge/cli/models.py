"""`miloco-edge pull, list, show, rm`: the models that this machine has and could have."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from huggingface_hub.utils.tqdm import disable_progress_bars

from miloco_edge.cli.options import json_option, offline_option
from miloco_edge.cli.output import Output
from miloco_edge.errors import MilocoEdgeError, ModelNotFoundError
from miloco_edge.registry import cache, hub
from miloco_edge.registry.cards import Card, Licence, load_cards
from miloco_edge.registry.gguf_header import GGUFHeader, read_header
from miloco_edge.registry.pair import check_pair
from miloco_edge.registry.reference import Reference, parse
from miloco_edge.registry.resolve import DEFAULT, ModelFiles, resolve, resolve_checkpoint
from miloco_edge.registry.verify import verify


@click.command("pull")
@click.argument("ref")
@click.option("--revision", help="A branch, tag or commit; the repository's main branch if absent.")
@click.option("--accept-license", is_flag=True, help="Accept the model's licence without asking.")
@offline_option
@json_option
def pull_command(
    output: Output, ref: str, revision: str | None, accept_license: bool, offline: bool
) -> None:
    """Fetch a model into Hugging Face's cache, pinned and checked."""
    reference, offline = parse(ref), offline or hub.is_offline()
    pulled: cache.Pull | None = None
    if reference.repo is not None and not offline:
        if not output.progress_wanted():
            disable_progress_bars()
        remote = hub.describe(reference, revision)
        files = hub.choose(reference, remote)
        licence = hub.terms(reference, remote)
        _accept(output, licence, accept_license or hub.was_accepted(remote, licence))
        pulled = hub.fetch(reference, remote, files, licence)
    elif reference.repo is not None and (pulls := cache.pulls_of(reference.repo)):
        pulled = pulls[-1]
    document = _pulled_document(reference, pulled, offline)
    if output.as_json:
        output.data(document)
        return
    for path in document["files"]:
        output.text(path)
    if pulled is not None:
        output.note(f"{pulled.repo} at {pulled.revision}, sizes and checksums as the hub states")


def _pulled_document(
    reference: Reference, pulled: cache.Pull | None, offline: bool
) -> dict[str, Any]:
    """What is on disk now. Raises where it is not there, or not a pair that can be served."""
    checkpoint = pulled is not None and not any(name.endswith(".gguf") for name in pulled.files)
    if checkpoint or (reference.card is not None and reference.card.kind == "checkpoint"):
        paths = [resolve_checkpoint(reference.written, offline=offline)]
        name = reference.card.name if reference.card else reference.written
    else:
        files = resolve(reference.written, offline=offline)
        check_pair(read_header(files.text), read_header(files.mmproj))
        paths, name = [files.text, files.mmproj], files.name
    return {
        "name": name,
        "repo": reference.repo,
        "revision": pulled.revision if pulled else None,
        "licence": pulled.licence if pulled else None,
        "files": [str(path) for path in paths],
        "pulled": {name: asdict(file) for name, file in pulled.files.items()} if pulled else None,
    }


def _accept(output: Output, licence: Licence, accepted: bool) -> None:
    """Show the licence, and go on only where it asks for nothing or has been accepted."""
    words = f"licence: {licence.id}. {licence.summary}"
    output.note(f"{words} {licence.url}" if licence.url else words)
    if not licence.accept or accepted:
        return
    if not can_ask(output):
        raise MilocoEdgeError(
            f"expected the licence {licence.id} to be accepted, got no answer",
            hint=f"read it{f' at {licence.url}' if licence.url else ''}, then add --accept-license",
        )
    if not click.confirm("Do you accept it?", err=True):
        raise MilocoEdgeError(
            f"expected the licence {licence.id} to be accepted, got no",
            hint="another model may suit: `miloco-edge list`",
        )


def can_ask(output: Output) -> bool:
    """Whether somebody is there to answer a question."""
    return not output.as_json and sys.stdin.isatty()


@click.command("list")
@json_option
def list_command(output: Output) -> None:
    """Show the models that are known and those that have been pulled."""
    pulls = {pull.repo: pull for pull in cache.all_pulls()}
    entries = [
        _list_entry(card, pulls.pop(card.repo or "", None)) for card in load_cards().values()
    ]
    entries += [_list_entry(None, pull) for pull in pulls.values()]
    if output.as_json:
        output.data(entries)
        return
    rows = (
        (
            entry["name"] + (" (default)" if entry["default"] else ""),
            "here" if entry["here"] else "-",
            size_text(entry["bytes"]) if entry["bytes"] else "",
            entry["licence"] or "",
            entry["title"] or "",
        )
        for entry in entries
    )
    output.table(("NAME", "HERE", "SIZE", "LICENCE", "WHAT"), rows)


def _list_entry(card: Card | None, pull: cache.Pull | None) -> dict[str, Any]:
    folder = card.folder if card else None
    packaged = bool(folder and any(folder.glob("*.gguf")))
    return {
        "name": card.name if card else pull.repo if pull else None,
        "kind": card.kind if card else "pair",
        "repo": pull.repo if pull else card.repo if card else None,
        "title": card.title if card else None,
        "licence": pull.licence if pull else card.licence.id if card and card.licence else None,
        "here": packaged or pull is not None,
        "default": card is not None and card.name == DEFAULT,
        "revision": pull.revision if pull else None,
        "bytes": sum(file.bytes for file in pull.files.values()) if pull else None,
    }


@click.command("show")
@click.argument("ref", required=False)
@click.option("--mmproj", type=click.Path(path_type=Path), help="The vision encoder to use.")
@click.option("--verify", "verify_files", is_flag=True, help="Hash both files and compare.")
@offline_option
@json_option
def show_command(
    output: Output, ref: str | None, mmproj: Path | None, verify_files: bool, offline: bool
) -> None:
    """Show a model's card, its files and what their headers say."""
    card = parse(ref).card if ref is not None else None
    try:
        files = resolve(ref, mmproj=mmproj, offline=offline)
    except ModelNotFoundError:
        if card is None or verify_files:
            raise
        files = None
    verified = verify(files) if files is not None and verify_files else None
    document = _show_document(files, files.card if files else card, verified)
    if output.as_json:
        output.data(document)
        return
    for line in _show_lines(document):
        output.text(line)
    unknown = [name for name, state in (verified or {}).items() if state is None]
    if unknown:
        output.note(f"no checksum is known for {', '.join(unknown)}; the headers are sound")


def _show_document(
    files: ModelFiles | None, card: Card | None, verified: dict[str, bool | None] | None
) -> dict[str, Any]:
    described = files or card
    assert described is not None
    return {
        "name": described.name,
        "here": files is not None,
        "card": None if card is None else _card_document(card),
        "text": files and _file_document(files.text, files.sha256, verified),
        "mmproj": files and _file_document(files.mmproj, files.mmproj_sha256, verified),
        "revision": files and cache.revision_of(files.text),
        "preprocessor": asdict(described.preprocessor),
        "sampling": asdict(described.sampling),
        "manifest": files is not None and files.manifest is not None,
    }


def _card_document(card: Card) -> dict[str, Any]:
    document = asdict(card)
    for name in ("folder", "preprocessor", "sampling"):
        del document[name]
    return document


def _file_document(
    path: Path, sha256: str | None, verified: dict[str, bool | None] | None
) -> dict[str, Any]:
    header = read_header(path)
    return {
        "path": str(path),
        "bytes": header.file_size,
        "sha256": sha256,
        "verified": verified[path.name] if verified is not None else None,
        "architecture": header.architecture,
        "name": header.metadata.get("general.name"),
        "file_type": header.file_type,
        "parameters": header.parameters,
        "bpw": round(header.bits_per_weight, 4),
        "context": _number(header, "context_length"),
        "layers": _number(header, "block_count"),
        "width": _number(header, "embedding_length"),
    }


def _number(header: GGUFHeader, name: str) -> int | None:
    prefix = "clip.vision" if header.architecture == "clip" else header.architecture
    value = header.metadata.get(f"{prefix}.{name}")
    return value if isinstance(value, int) else None


def _show_lines(document: dict[str, Any]) -> list[str]:
    card = document["card"]
    lines = [f"{document['name']}: {card['title']}" if card else document["name"]]
    if card is not None:
        licence = card["licence"]
        lines += [f"from:     {card['repo'] or 'this project'}"]
        lines += [f"licence:  {licence['id']}. {licence['summary']}"] if licence else []
        if card["recipe"]:
            lines += ["recipe:   {} for the text, {} for the mmproj".format(*card["recipe"])]
        lines += [f"note:     {note}" for note in card["notes"]]
    for role in ("text", "mmproj"):
        if file := document[role]:
            lines += [
                f"{role + ':':<9} {file['path']}",
                f"          {size_text(file['bytes'])}, {file['file_type']}, "
                f"{file['parameters'] / 1e6:,.1f} M parameters, {file['bpw']:.2f} bits per weight, "
                f"{file['layers']} layers of {file['width']}"
                + (f", context {file['context']}" if file["context"] else ""),
                f"          sha256 {file['sha256'] or 'not known'}"
                + (", verified" if file["verified"] else ""),
            ]
    if not document["here"]:
        lines.append(f"files:    not here; `miloco-edge pull {document['name']}`")
    pre, sampling = document["preprocessor"], document["sampling"]
    lines += [
        f"pictures: {pre['image_pixels'][0]} to {pre['image_pixels'][1]} pixels; video "
        f"{pre['fps']:g} fps, {pre['min_frames']} to {pre['max_frames']} frames",
        f"sampling: temperature {sampling['temperature']:g}, top-p {sampling['top_p']:g}",
    ]
    for table in card["scores"] if card else ():
        lines += ["", f"{table['title']} ({table['source']})", table["note"]]
        width = max(len(benchmark) for benchmark, _ in table["rows"])
        lines.append(" " * width + "  " + "  ".join(table["models"]))
        for benchmark, scores in table["rows"]:
            cells = (
                f"{score:>{len(model)}g}"
                for score, model in zip(scores, table["models"], strict=True)
            )
            lines.append(f"{benchmark:<{width}}  " + "  ".join(cells))
    return lines


@click.command("rm")
@click.argument("ref")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def rm_command(output: Output, ref: str, yes: bool) -> None:
    """Remove a pulled model from Hugging Face's cache."""
    reference = parse(ref)
    if reference.repo is None:
        raise click.UsageError(
            f"expected a model that was pulled, got files of your own: {reference.path}"
        )
    if reference.quant is not None:
        raise click.UsageError(
            f"expected a whole repository, got {ref}: rm {reference.repo} removes all of it"
        )
    removal = hub.plan_removal(reference)
    if not yes:
        if not can_ask(output):
            raise click.UsageError("expected --yes, since nobody is there to be asked")
        click.confirm(
            f"Remove {removal.repo}, {len(removal.revisions)} revision(s), "
            f"{size_text(removal.bytes)}?",
            abort=True, err=True,
        )  # fmt: skip
    hub.remove(removal)
    if output.as_json:
        output.data(asdict(removal))
    else:
        output.note(f"removed {removal.repo}: {size_text(removal.bytes)} freed")


def size_text(size: int) -> str:
    """A number of bytes as people read it: 4.14 GiB."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} B"
