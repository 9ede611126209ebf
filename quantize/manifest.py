"""What a run made of what: the JSON beside the GGUF pair."""

from __future__ import annotations

import json
import math
import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quantize.checkpoint import Checkpoint, read_json_if_any
from quantize.fit_report import FitReport
from quantize.metadata import GENERATION_CONFIG, PREPROCESSOR_CONFIG, preprocessor_config

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
SETTINGS_FILES = (
    "config.json", GENERATION_CONFIG, PREPROCESSOR_CONFIG, "processor_config.json",
    "video_preprocessor_config.json", "README.md", *TOKENIZER_FILES,
)  # fmt: skip
"""Files whose content the outputs depend on, besides the weights."""


@dataclass(frozen=True)
class Source:
    """The checkpoint."""

    path: str
    revision: str | None
    """The hub's commit, where the folder lies in its cache."""
    files: dict[str, str]
    """SHA-256 by name; the shards' are absent from a dry run."""


@dataclass(frozen=True)
class OutputFile:
    """One file of the pair."""

    file: str
    bytes: int
    sha256: str | None
    """None in a dry run."""
    bpw: float
    """Bits per weight, of the tensors alone, as llama.cpp counts."""


@dataclass(frozen=True)
class TensorReport:
    """One tensor of either file."""

    name: str
    shape: tuple[int, ...]
    """Outermost first."""
    type: str
    bytes: int
    rmse: float | None
    """Root mean square error of the weights against the source's, over the first eighth of each
    slab of about a million weights; 0 where the type holds the source exactly, None in a dry run.
    """
    nmse: float | None
    """Squared error over squared weights, over the same rows."""


@dataclass(frozen=True)
class ImatrixReport:
    """The imatrix that the weights were quantized with."""

    file: str
    sha256: str
    datasets: tuple[str, ...]
    chunks: int


@dataclass(frozen=True)
class Manifest:
    """Everything that is known about a pair; `to_json` is what stands beside it."""

    source: Source
    recipe: str
    outputs: tuple[OutputFile, ...]
    tensors: tuple[TensorReport, ...]
    imatrix: ImatrixReport | None
    fit: FitReport | None
    """None where a recipe chose the types."""
    preprocessor: dict[str, float | int | None]
    """What a GGUF does not carry: pixel limits, fps, tokens per second, patch sizes."""
    sampling: dict[str, float | int | bool | None]
    versions: dict[str, str]
    seconds: float
    peak_rss_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as a JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the manifest as the text of its file."""
        return json.dumps(self.to_json(), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def preprocessor(checkpoint: Checkpoint) -> dict[str, float | int | None]:
    """Return what the engine needs to fit pictures and clips; None where nothing says it.

    Pixel limits stand as `min_pixels` and `max_pixels` (transformers 4) or as the `size` object's
    `shortest_edge` and `longest_edge` (transformers 5).
    """
    picture = preprocessor_config(checkpoint.path)
    video = read_json_if_any(checkpoint.path / "video_preprocessor_config.json")
    least, most = _pixels(picture)
    video_least, video_most = _pixels(video)
    return {
        "min_pixels": least,
        "max_pixels": most,
        "video_min_pixels": video_least,
        "video_max_pixels": video_most,
        "patch_size": _number(picture.get("patch_size")),
        "merge_size": _number(picture.get("merge_size")),
        "temporal_patch_size": _number(picture.get("temporal_patch_size")),
        "fps": _number(video.get("fps", picture.get("fps"))),
        "min_frames": _number(video.get("min_frames")),
        "max_frames": _number(video.get("max_frames")),
        "tokens_per_second": _number(checkpoint.vision_config.get("tokens_per_second")),
    }


def _pixels(processor: Mapping[str, Any]) -> tuple[float | int | None, float | int | None]:
    size = processor.get("size")
    size = size if isinstance(size, dict) else {}
    return (
        _number(processor.get("min_pixels") or size.get("shortest_edge")),
        _number(processor.get("max_pixels") or size.get("longest_edge")),
    )


def sampling(checkpoint: Checkpoint) -> dict[str, float | int | bool | None]:
    """Return generation_config.json's sampling settings; None where it does not say."""
    generation = read_json_if_any(checkpoint.path / GENERATION_CONFIG)
    names = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return {name: _number(generation.get(name)) for name in names}


def _number(value: Any) -> float | int | None:
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return None


def versions() -> dict[str, str]:
    """Return the versions of what the bytes depend on."""
    packages = ("llama-cpp-python", "gguf", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def peak_rss_bytes() -> int:
    """Return the most memory that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def settings_files(path: Path) -> Iterable[Path]:
    """Return the files of SETTINGS_FILES that the checkpoint in `path` has."""
    return (path / name for name in SETTINGS_FILES if (path / name).is_file())


def by_name(digests: Mapping[Path, str]) -> dict[str, str]:
    """Return digests by file name, sorted."""
    return {path.name: digest for path, digest in sorted(digests.items())}
