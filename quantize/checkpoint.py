"""A checkpoint folder in Hugging Face layout: its configuration and where its tensors lie."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quantize.errors import CheckpointError, NotFoundError
from quantize.safetensors import Stored, assert_is_object, read_header

ARCHITECTURE = "Qwen2_5_VLForConditionalGeneration"
INDEX = "model.safetensors.index.json"
MAX_JSON = 64 << 20
_LAYOUT = "give the folder that holds config.json, tokenizer.json and the safetensors files"

# Not weights: the reference converter leaves them out as well.
_IGNORED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class Checkpoint:
    """A Qwen2.5-VL checkpoint whose headers have been checked; no weights are read yet."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, Stored]
    """By plain name: `model.layers.0...`, `visual.blocks.0...`, `lm_head.weight`."""
    shards: dict[Path, list[Stored]]
    """Every tensor of every file, used or not, in the order of their bytes."""

    @cached_property
    def text_config(self) -> dict[str, Any]:
        """The language model's settings, flat (transformers 4) or nested (transformers 5)."""
        return self.config | _object(self.path, self.config, "text_config")

    @cached_property
    def vision_config(self) -> dict[str, Any]:
        """The vision tower's settings."""
        return _object(self.path, self.config, "vision_config")

    @property
    def name(self) -> str:
        """The folder's name or, in the hub's cache, the repository's."""
        return self._in_hub_cache[0] if self._in_hub_cache else self.path.name

    @property
    def revision(self) -> str | None:
        """The commit, where the folder lies in the hub's cache."""
        return self._in_hub_cache[1] if self._in_hub_cache else None

    @cached_property
    def _in_hub_cache(self) -> tuple[str, str] | None:
        """Read `.../models--org--name/snapshots/<commit>`, huggingface_hub's layout."""
        found = re.search(
            r"/models--(?:[^/]*?--)?([^/]+)/snapshots/([0-9a-f]{40})$", str(self.path)
        )
        return (found[1], found[2]) if found else None


def open_checkpoint(path: Path) -> Checkpoint:
    """Read and check the headers of the checkpoint in the folder `path`.

    Raises NotFoundError where the folder, config.json or a shard is missing, CheckpointError
    where it is another architecture or its files do not agree with each other.
    """
    path = path.resolve() if path.name == ".." else path.absolute()  # its name names the files
    if not path.is_dir():
        raise NotFoundError(path, "expected a checkpoint folder here, found none", hint=_LAYOUT)
    config = read_json(path / "config.json")
    named = config.get("architectures") or [ARCHITECTURE]
    if config.get("model_type") != "qwen2_5_vl" or named != [ARCHITECTURE]:
        raise CheckpointError(
            path,
            f"expected the architecture {ARCHITECTURE}, got {config.get('architectures')} "
            f"(model_type {config.get('model_type')!r})",
            hint="only checkpoints of the Qwen2.5-VL architecture, like MiMo-VL, can be converted",
        )
    shards = _read_shards(path)
    tensors: dict[str, Stored] = {}
    for stored in (stored for shard in shards.values() for stored in shard):
        if stored.name.endswith(_IGNORED):
            continue
        if tensors.setdefault(plain_name(stored.name), stored) is not stored:
            raise CheckpointError(path, f"expected {stored.name} once, got it twice")
    return Checkpoint(path, config, tensors, shards)


def plain_name(name: str) -> str:
    """Strip what transformers' releases have put around the two towers.

    `model.language_model.layers.0` and `language_model.model.layers.0` become `model.layers.0`,
    `model.visual.blocks.0` becomes `visual.blocks.0`.
    """
    return re.sub(r"^model\.visual\.", "visual.", name.replace("language_model.", "", 1))


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; NotFoundError or CheckpointError where there is none."""
    if not path.is_file():
        raise NotFoundError(
            path, "expected this file of the checkpoint, found nothing", hint=_LAYOUT
        )
    if path.stat().st_size > MAX_JSON:
        raise CheckpointError(path, f"expected at most {MAX_JSON} bytes, got {path.stat().st_size}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        assert_is_object(value)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, f"expected a JSON object, got {error}") from error
    return dict(value)


def read_json_if_any(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or an empty one where there is no such file."""
    return read_json(path) if path.is_file() else {}


def _object(path: Path, config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name, {})
    if not isinstance(value, dict):
        raise CheckpointError(path / "config.json", f"expected {name} to be an object")
    return value


def _read_shards(path: Path) -> dict[Path, list[Stored]]:
    single = path / "model.safetensors"
    if not (path / INDEX).is_file():
        if not single.is_file():
            raise NotFoundError(
                path, f"expected model.safetensors or {INDEX}, found neither", hint=_LAYOUT
            )
        return {single: read_header(single)}
    index = read_json(path / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(path / INDEX, "expected a weight_map, got none")
    for shard in index.values():
        if not isinstance(shard, str) or Path(shard).name != shard or shard.startswith("."):
            raise CheckpointError(path / INDEX, f"expected names of files, got {shard!r:.80}")
    if single.is_file() and single.name not in index.values():
        raise CheckpointError(
            path,
            f"expected {single.name} or {INDEX}, got both",
            hint="one is of an older save: remove it, with its shards",
        )
    shards = {path / shard: read_header(path / shard) for shard in sorted(set(index.values()))}
    stored = {tensor.name: file.name for file, shard in shards.items() for tensor in shard}
    if sum(map(len, shards.values())) != len(stored):
        raise CheckpointError(path / INDEX, "expected every tensor in one shard, got one in two")
    if stored != index:
        name = min(name for name, _ in stored.items() ^ index.items())
        raise CheckpointError(
            path / INDEX,
            f"expected {name} in {index.get(name, 'no shard')}, "
            f"got it in {stored.get(name, 'no shard')}",
            hint="download the checkpoint again; its index and its shards do not agree",
        )
    return shards
