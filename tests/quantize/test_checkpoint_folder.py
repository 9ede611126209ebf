from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthesize import TINY, synthesize
from quantize.checkpoint import INDEX, open_checkpoint, plain_name
from quantize.dimensions import text_dimensions, vision_dimensions
from quantize.errors import CheckpointError, NotFoundError


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("language_model.model.norm.weight", "model.norm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("model.visual.blocks.0.norm1.weight", "visual.blocks.0.norm1.weight"),
        ("visual.blocks.0.norm1.weight", "visual.blocks.0.norm1.weight"),
    ],
)
def test_prefixes_of_every_release_are_stripped(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize("flat", [True, False])
def test_sizes_are_read_from_flat_and_nested_configurations(tmp_path: Path, flat: bool) -> None:
    checkpoint = open_checkpoint(synthesize(tmp_path / "tiny", TINY, flat_config=flat))
    text = text_dimensions(checkpoint)
    vision = vision_dimensions(checkpoint, text)
    assert (text.layers, text.hidden, text.ffn, text.head_dim, text.vocabulary) == (
        3, 256, 512, 128, 768,
    )  # fmt: skip
    assert (vision.layers, vision.hidden, vision.projection, vision.window_pattern) == (
        4, 256, 256, 2,
    )  # fmt: skip


def test_name_and_revision_come_from_the_hubs_cache(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--XiaomiMiMo--MiMo-VL-7B-RL-2508" / "snapshots" / commit
    checkpoint = open_checkpoint(synthesize(folder, TINY))
    assert (checkpoint.name, checkpoint.revision) == ("MiMo-VL-7B-RL-2508", commit)
    elsewhere = open_checkpoint(synthesize(tmp_path / "mine", TINY))
    assert (elsewhere.name, elsewhere.revision) == ("mine", None)


def test_the_folder_above_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = synthesize(tmp_path / "mine", TINY)
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    assert open_checkpoint(Path("..")).name == "mine"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(architectures=["LlamaForCausalLM"]), "LlamaForCausalLM"),
        (lambda c: c.update(model_type="qwen2_vl"), "qwen2_vl"),
        (lambda c: c.pop("hidden_size"), "hidden_size"),
        (lambda c: c.update(hidden_size=1 << 40), "hidden_size"),
        (lambda c: c.update(num_hidden_layers="3"), "num_hidden_layers"),
        (lambda c: c.update(vision_config=[]), "vision_config"),
        (lambda c: c["vision_config"].update(window_size=224), "window_size"),
        (lambda c: c["vision_config"].update(temporal_patch_size=1), "temporal_patch_size"),
        (lambda c: c["vision_config"].update(out_hidden_size=512), "out_hidden_size"),
        (lambda c: c["vision_config"].update(fullatt_block_indexes=[1, 2]), "fullatt_block"),
        (lambda c: c["vision_config"].update(fullatt_block_indexes=[]), "fullatt_block"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    folder = synthesize(tmp_path / "tiny", TINY)
    edit(folder / "config.json", change)
    with pytest.raises(CheckpointError, match=says) as raised:
        checkpoint = open_checkpoint(folder)
        vision_dimensions(checkpoint, text_dimensions(checkpoint))
    assert "expected" in str(raised.value)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", TINY, shards=3)
    shard = folder / "model-00002-of-00003.safetensors"
    shard.unlink()
    with pytest.raises(NotFoundError, match=shard.name):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda i: i["weight_map"].pop("lm_head.weight"), "lm_head.weight in no shard"),
        (lambda i: i["weight_map"].update(x="model-00001-of-00003.safetensors"), "got it in no"),
        (lambda i: i["weight_map"].update(
            {"lm_head.weight": "model-00001-of-00003.safetensors"}), "got it in model-00003"),
        (lambda i: i["weight_map"].update(x="../secret.safetensors"), "names of files"),
        (lambda i: i["weight_map"].update(x=7), "names of files"),
        (lambda i: i.update(weight_map={}), "weight_map"),
        (lambda i: i.pop("weight_map"), "weight_map"),
    ],
)  # fmt: skip
def test_an_index_that_contradicts_its_shards_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    folder = synthesize(tmp_path / "tiny", TINY, shards=3)
    edit(folder / INDEX, change)
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(folder)


def test_weights_saved_twice_are_refused(tmp_path: Path) -> None:
    """transformers takes the one file, and the shards beside it may be older."""
    folder = synthesize(tmp_path / "tiny", TINY, shards=3)
    shutil.copy(synthesize(tmp_path / "newer", TINY) / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match="got both"):
        open_checkpoint(folder)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_its_files_is_not_found(tmp_path: Path, missing: str) -> None:
    folder = synthesize(tmp_path / "tiny", TINY)
    (folder / missing).unlink()
    with pytest.raises(NotFoundError, match="expected"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"a": "\\ud800'])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    folder = synthesize(tmp_path / "tiny", TINY)
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="JSON object"):
        open_checkpoint(folder)


def test_no_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="folder"):
        open_checkpoint(tmp_path / "nowhere")
