from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from miloco_edge import Budget, Clip, Engine
from miloco_edge.errors import ManifestError, NotFoundError
from miloco_edge.measure.facts import facts_of
from miloco_edge.measure.shapes import SHAPES, read_shape
from miloco_edge.measure.synthetic import write_pair
from miloco_edge.measure.vocabulary import vocabulary
from miloco_edge.registry import check_pair, read_header
from miloco_edge.registry.verify import sha256_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("synthetic"), SHAPES["tiny"])


def test_it_passes_our_checks_and_answers(folder: Path, clip: Clip) -> None:
    check_pair(read_header(folder / "text.gguf"), read_header(folder / "mmproj.gguf"))
    with Engine.load(folder, threads=1, context=1024) as engine:
        assert engine.thinks
        with engine.look(clip, budget=Budget(visual_tokens=128)) as scene:
            answer = scene.ask("Who is in the room?", budget=Budget(answer_tokens=3))
            logits = scene.logits("Who?")
    assert answer.usage.completion_tokens >= 1
    assert 0.1 < logits.std() < 100


def test_the_same_seed_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_pair(tmp_path, SHAPES["tiny"], progress=lambda done, total: told.append((done, total)))
    for name in ("text.gguf", "mmproj.gguf"):
        assert sha256_of(tmp_path / name) == sha256_of(folder / name)
    assert told[-1][0] == told[-1][1] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mmproj.gguf", "text.gguf"]
    assert sha256_of(write_pair(tmp_path, SHAPES["tiny"], seed=1) / "text.gguf") != sha256_of(
        folder / "text.gguf"
    )


def test_random_blocks_are_weights_of_the_right_size(folder: Path) -> None:
    reader = gguf.GGUFReader(folder / "text.gguf")
    found = {tensor.name: tensor for tensor in reader.tensors}
    for name, std in (("blk.0.attn_q.weight", 1 / 16), ("output.weight", 1 / 16)):
        tensor = found[name]
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert weights.std() == pytest.approx(std, rel=0.03)
        assert abs(weights.mean()) < std / 20
    assert found["output.weight"].tensor_type.name == "Q6_K"


def test_what_a_7b_costs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The tensors of MiMo-VL-7B, counted without writing them: 7.62 and 0.68 thousand million."""
    from miloco_edge.measure import synthetic

    shape = SHAPES["mimo-vl-7b"]
    text, vision = list(synthetic._text(shape)), list(synthetic._vision(shape))
    assert sum(int(np.prod(t.shape)) for t in text) == 7_622_619_136
    assert sum(t.nbytes for t in text) == pytest.approx(4.144 * 2**30, rel=0.01)
    assert sum(int(np.prod(t.shape)) for t in vision) == pytest.approx(683.6e6, rel=0.001)
    assert sum(t.nbytes for t in vision) == pytest.approx(1.277 * 2**30, rel=0.01)


def test_facts_are_read_off_the_headers(folder: Path) -> None:
    facts = facts_of(read_header(folder / "text.gguf"), read_header(folder / "mmproj.gguf"))
    assert (facts.text_type, facts.vision_type) == ("Q4_0", "BF16")
    assert facts.layer_parameters == 3 * (2 * 256**2 + 2 * 256 * 128 + 3 * 256 * 512)
    assert facts.kv_bytes == 3 * 2 * 128 * 2
    assert facts.token_bytes == facts.text_bytes - 768 * 256 * 18 // 32
    # 2 operations a weight and token, and causal attention: 4 * n^2 / 2 * width a layer.
    assert facts.prefill_flops(10) == 20 * facts.layer_parameters + 3 * 2 * 100 * 256
    assert facts.vision.layers == 4


def test_a_vocabulary_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="expected a vocabulary of at least"):
        vocabulary(300)
    tokens, kinds, merges = vocabulary(800)
    assert len(tokens) == len(set(tokens)) == len(kinds) == 800
    assert all(merge.replace(" ", "", 1) in tokens for merge in merges)


def test_any_shape_is_read_off_a_checkpoints_config(checkpoint: Path) -> None:
    assert read_shape(checkpoint) == read_shape(checkpoint / "config.json") == SHAPES["tiny"]
    demo = read_shape(Path(__file__).parents[2] / "models/demo/miloco-edge-demo")
    assert (demo.layers, demo.heads, demo.kv_heads, demo.ffn) == (4, 4, 2, 768)
    assert (demo.vit_layers, demo.full_attention, demo.rope_base) == (6, 2, 10.0)


def test_an_embedding_that_doubles_as_the_output(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    folder = write_pair(tmp_path / "pair", read_shape(tmp_path))
    text = read_header(folder / "text.gguf")
    check_pair(text, read_header(folder / "mmproj.gguf"))
    types = {tensor.name: tensor.type for tensor in text.tensors}
    assert types["token_embd.weight"] == "Q6_K" and "output.weight" not in types


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "llama"}, "expected model_type qwen2_5_vl, got 'llama'"),
        ({"hidden_size": 300}, "hidden_size: expected a multiple of 256"),
        ({"num_hidden_layers": True}, "num_hidden_layers: expected a whole number"),
        ({"vocab_size": 10}, "vocab_size: expected a whole number from 768"),
        ({"num_attention_heads": 3}, "expected heads that share 256"),
        ({"vision_config": None}, "expected an object, got None"),
        ({"rope_theta": "far", "rope_parameters": None}, "rope_theta: expected a number"),
    ],
)
def test_a_config_that_is_none(
    checkpoint: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads((checkpoint / "config.json").read_text()) | change))
    with pytest.raises(ManifestError, match=words):
        read_shape(path)


def test_a_shape_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"expected tiny, mimo-vl-7b or a config\.json"):
        read_shape(tmp_path / "huge")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ManifestError, match="expected JSON"):
        read_shape(tmp_path)
