"""From what the user wrote to two files on disk and everything that is known of them.

Nothing here uses the network: a repository must have been pulled.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from miloco_edge.errors import ModelNotFoundError
from miloco_edge.registry import cache
from miloco_edge.registry.cards import Card, card_of_file, load_cards
from miloco_edge.registry.choice import choose_mmproj, choose_text, is_mmproj, the_only
from miloco_edge.registry.defaults import calibration_from, preprocessor_from, sampling_from
from miloco_edge.registry.gguf_header import read_header
from miloco_edge.registry.manifest import (
    Manifest,
    find_manifest,
    output_names,
    output_sha256,
    read_manifest,
    write_field,
)
from miloco_edge.registry.pair import check_architecture
from miloco_edge.registry.reference import Reference, parse
from miloco_edge.types import Calibration, Preprocessor, SamplingDefaults

log = logging.getLogger(__name__)

DEFAULT = "miloco-7b"
FALLBACK = "demo"


@dataclass(frozen=True)
class ModelFiles:
    """A pair of files and what is known of it. The files are checked when they are loaded."""

    name: str
    """The alias, else org/repo:TYPE, else the text file's name without its ending."""
    text: Path
    mmproj: Path
    file_type: str
    """The text file's quantization: Q4_K_M."""
    preprocessor: Preprocessor
    sampling: SamplingDefaults
    calibration: Calibration = field(default_factory=Calibration)
    """Of p_yes."""
    card: Card | None = None
    manifest: Manifest | None = None
    sha256: str | None = None
    """The text file's checksum as its manifest or the hub states it."""
    mmproj_sha256: str | None = None


def resolve(
    ref: str | Path | None, *, mmproj: str | Path | None = None, offline: bool = False
) -> ModelFiles:
    """Find the pair that `ref` names: alias, FILE.gguf, folder, or org/repo[:QUANT] once pulled.

    None is the default model: MILOCO_EDGE_MODEL, else miloco-7b if it has been pulled, else demo.
    `mmproj` overrides the vision encoder that would be found. `offline` only words the advice: no
    reference is ever fetched here.

    Raises ModelNotFoundError where nothing answers to `ref` or more than one file does, GGUFError
    where the text file is not sound, ModelMismatchError where its manifest is not.
    """
    reference = parse(default_reference() if ref is None else ref)
    text = _find_text(reference, offline)
    header = read_header(text)
    check_architecture(header)
    where = find_manifest(text)
    manifest = read_manifest(where) if where else None
    card = reference.card or card_of_file(text.name)
    encoder = _find_mmproj(reference, text, manifest, card, mmproj)
    preprocessor = card.preprocessor if card else Preprocessor()
    sampling = card.sampling if card else SamplingDefaults()
    calibration = card.calibration if card else Calibration()
    if manifest is not None and where is not None:
        preprocessor = preprocessor_from(manifest.get("preprocessor"), where, preprocessor)
        sampling = sampling_from(manifest.get("sampling"), where, sampling)
        calibration = calibration_from(manifest.get("p_yes"), where, calibration)
    return ModelFiles(
        name=_name(reference, text, header.file_type),
        text=text,
        mmproj=encoder,
        file_type=header.file_type,
        preprocessor=preprocessor,
        sampling=sampling,
        calibration=calibration,
        card=card,
        manifest=manifest,
        sha256=output_sha256(manifest, text.name) or cache.checksum_of(text),
        mmproj_sha256=output_sha256(manifest, encoder.name) or cache.checksum_of(encoder),
    )


def write_calibration(files: ModelFiles, calibration: Calibration, samples: int) -> Path:
    """Keep a calibration of p_yes in the manifest beside the model; the manifest's path.

    `samples` is how many answers it was fitted to. Raises OSError where nothing may be written.
    """
    fitted = {**asdict(calibration), "samples": samples}
    return write_field(files.text, files.mmproj, "p_yes", fitted)


def _name(reference: Reference, text: Path, file_type: str) -> str:
    if reference.card is not None and reference.quant is None:
        return reference.card.name
    return f"{reference.repo}:{reference.quant or file_type}" if reference.repo else text.stem


def resolve_checkpoint(ref: str | Path, *, offline: bool = False) -> Path:
    """The folder of the checkpoint that `ref` names: a folder, or a repository once pulled.

    Raises ModelNotFoundError where there is no config.json in it.
    """
    reference = parse(ref)
    folder = reference.path if reference.repo is None else _snapshot(reference, offline)
    assert folder is not None
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            reference.written, f"expected a checkpoint with a config.json in {folder}, got none",
            hint="give the folder of a checkpoint in Hugging Face's layout",
        )  # fmt: skip
    return folder


def default_reference() -> str:
    """The model that is used where none is named."""
    if named := os.environ.get("MILOCO_EDGE_MODEL"):
        return named
    card = load_cards()[DEFAULT]
    if card.repo is not None and cache.snapshot(card.repo) is not None:
        return DEFAULT
    log.warning("no model was named and %s has not been pulled: this is the demo model", DEFAULT)
    return FALLBACK


def _find_text(reference: Reference, offline: bool) -> Path:
    folder = reference.path if reference.repo is None else _snapshot(reference, offline)
    assert folder is not None
    if not folder.is_dir():
        return _existing(reference, folder)
    card = reference.card
    if reference.repo is not None and card and card.text and reference.quant is None:
        return _existing(reference, folder / card.text)
    return folder / _choose(reference, folder)


def _snapshot(reference: Reference, offline: bool) -> Path:
    assert reference.repo is not None
    folder = cache.snapshot(reference.repo)
    if folder is None:
        raise ModelNotFoundError(
            reference.written,
            f"expected {reference.repo} in the cache{' while offline' if offline else ''}, "
            "got nothing",
            hint=f"fetch it with `miloco-edge pull {reference.written}`"
            + (", without --offline and HF_HUB_OFFLINE" if offline else ""),
        )
    return folder


def _existing(reference: Reference, path: Path) -> Path:
    if path.is_file():
        return path
    if reference.repo is not None:
        hint = f"fetch it with `miloco-edge pull {reference.written}`"
    elif reference.card is not None:
        hint = f"it is not part of this installation; name another model, or pull {DEFAULT}"
    else:
        hint = "check the path"
    raise ModelNotFoundError(
        reference.written, f"expected a model at {path}, got nothing", hint=hint
    )


def _choose(reference: Reference, folder: Path) -> str:
    names = _ggufs(folder)
    texts = [name for name in names if not is_mmproj(name)]
    if not texts and (folder / "config.json").is_file():
        raise ModelNotFoundError(
            reference.written, f"expected a GGUF pair in {folder}, got a checkpoint",
            hint=f"make a pair of it with `miloco-edge quantize {reference.written}`",
        )  # fmt: skip
    if not texts:
        _existing(reference, folder / "*.gguf")
    if reference.repo is not None:
        return choose_text(reference.written, names, reference.quant)
    described = [name for name in texts if find_manifest(folder / name) is not None]
    return the_only(reference.written, described if len(texts) > 1 else texts, texts, "text model")


def _find_mmproj(
    reference: Reference,
    text: Path,
    manifest: Manifest | None,
    card: Card | None,
    given: str | Path | None,
) -> Path:
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise ModelNotFoundError(
                str(given), f"expected an mmproj at {path}, got nothing", hint="check the path"
            )
        return path
    folder = text.parent
    told = [name for name in output_names(manifest or {}) if is_mmproj(name)]
    if card is not None and card.mmproj is not None:
        told.append(card.mmproj)
    for name in told:
        if (folder / name).is_file():
            return folder / name
    if reference.repo is not None:
        return folder / choose_mmproj(reference.written, _ggufs(folder))
    encoders = [name for name in _ggufs(folder) if is_mmproj(name)]
    return folder / the_only(reference.written, encoders, encoders, "mmproj")


def _ggufs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.gguf"))
