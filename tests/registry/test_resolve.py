"""From what is written to a pair of files, and what is known of them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from miloco_edge.errors import GGUFError, ModelMismatchError, ModelNotFoundError
from miloco_edge.registry import cards, resolve, resolve_checkpoint
from miloco_edge.registry.choice import choose_mmproj, choose_text, has_type
from miloco_edge.registry.reference import parse
from miloco_edge.types import Preprocessor, SamplingDefaults
from tests.registry.gguf_bytes import gguf, write_pair


def write_manifest(text: Path, *others: Path, **more: Any) -> Path:
    outputs = [{"file": path.name, "bytes": 1, "sha256": "ab" * 32} for path in (text, *others)]
    path = text.with_suffix(".manifest.json")
    path.write_text(json.dumps({"outputs": outputs, **more}))
    return path


def test_a_file_finds_its_mmproj(tmp_path: Path) -> None:
    text, mmproj = write_pair(tmp_path)
    files = resolve(str(text))
    assert (files.name, files.text, files.mmproj) == ("tiny-Q4_0", text, mmproj)
    assert files.file_type == "Q4_0"
    assert files.card is files.manifest is files.sha256 is files.mmproj_sha256 is None
    assert (files.preprocessor, files.sampling) == (Preprocessor(), SamplingDefaults())
    assert resolve(text) == files
    assert resolve(tmp_path) == files
    assert resolve(str(tmp_path)) == files


def test_a_given_mmproj_wins(tmp_path: Path) -> None:
    text, _ = write_pair(tmp_path / "a")
    _, other = write_pair(tmp_path / "b")
    assert resolve(text, mmproj=other).mmproj == other
    assert resolve(text, mmproj=str(other)).mmproj == other
    with pytest.raises(ModelNotFoundError, match="expected an mmproj at"):
        resolve(text, mmproj=tmp_path / "none.gguf")


def test_no_mmproj_or_several(tmp_path: Path) -> None:
    text, mmproj = write_pair(tmp_path)
    shutil.copy(mmproj, tmp_path / "mmproj-other.gguf")
    with pytest.raises(ModelNotFoundError, match=r"one mmproj, got mmproj-other.gguf, mmproj-t"):
        resolve(text)
    for path in tmp_path.glob("mmproj*"):
        path.unlink()
    with pytest.raises(ModelNotFoundError, match="one mmproj, got none") as caught:
        resolve(text)
    assert caught.value.hint == "give --mmproj FILE"


def test_an_ambiguous_folder_lists_its_candidates(tmp_path: Path) -> None:
    text, _ = write_pair(tmp_path)
    shutil.copy(text, tmp_path / "tiny-Q4_K_M.gguf")
    with pytest.raises(ModelNotFoundError, match=r"got tiny-Q4_0\.gguf, tiny-Q4_K_M\.gguf"):
        resolve(tmp_path)


def test_the_manifest_says_which_and_how(tmp_path: Path) -> None:
    text, mmproj = write_pair(tmp_path)
    shutil.copy(text, tmp_path / "other-Q4_0.gguf")
    shutil.copy(mmproj, tmp_path / "mmproj-other.gguf")
    write_manifest(
        text,
        mmproj,
        preprocessor={
            "min_pixels": 784, "max_pixels": 78400, "video_min_pixels": 7840,
            "video_max_pixels": None, "fps": 1, "tokens_per_second": None,
        },
        sampling={"temperature": 0.7, "top_p": None, "top_k": 20},
    )  # fmt: skip
    files = resolve(tmp_path)
    assert (files.text, files.mmproj) == (text, mmproj)
    assert files.preprocessor == Preprocessor(
        image_pixels=(784, 78400), video_pixels=(7840, 768 * 28 * 28), fps=1.0
    )
    assert files.sampling == SamplingDefaults(temperature=0.7)
    assert files.sha256 == files.mmproj_sha256 == "ab" * 32
    assert files.manifest is not None


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "{}", '{"outputs": [{}]}', '{"outputs": [{"file": "../x"}]}',
        '{"outputs": [{"file": 7}]}', '{"outputs": 7}', "[" * 100_000,
        '{"outputs": [{"file": "tiny-Q4_0.gguf"}], "preprocessor": {"fps": 0}}',
        '{"outputs": [{"file": "tiny-Q4_0.gguf"}], "preprocessor": {"fps": "fast"}}',
        '{"outputs": [{"file": "tiny-Q4_0.gguf"}], "preprocessor": {"max_pixels": 1}}',
        '{"outputs": [{"file": "tiny-Q4_0.gguf"}], "preprocessor": {"video_max_pixels": 1}}',
        '{"outputs": [{"file": "tiny-Q4_0.gguf"}], "preprocessor": [1]}',
        '{"outputs": [{"file": "tiny-Q4_0.gguf"}], "sampling": {"top_p": 2}}',
        '{"outputs": [{"file": "tiny-Q4_0.gguf"}], "sampling": {"temperature": true}}',
    ],
)  # fmt: skip
def test_a_bad_manifest_is_refused(content: str, tmp_path: Path) -> None:
    text, _ = write_pair(tmp_path)
    text.with_suffix(".manifest.json").write_text(content)
    with pytest.raises(ModelMismatchError) as caught:
        resolve(text)
    assert caught.value.path.name == "tiny-Q4_0.manifest.json"
    assert caught.value.hint


def test_files_that_are_no_text_model(tmp_path: Path) -> None:
    _, mmproj = write_pair(tmp_path)
    with pytest.raises(ModelMismatchError, match="expected a text model, got an mmproj"):
        resolve(mmproj)
    llama = tmp_path / "llama.gguf"
    llama.write_bytes(gguf([("general.architecture", "str", "llama")]))
    with pytest.raises(ModelMismatchError, match="expected architecture qwen2vl, got llama"):
        resolve(llama)
    llama.write_text("<!DOCTYPE html>")
    with pytest.raises(GGUFError, match="expected a GGUF file"):
        resolve(llama)


def test_nothing_there(tmp_path: Path, cache: Path) -> None:
    for ref in (tmp_path / "none.gguf", tmp_path, "a/b", "~/none.gguf"):
        with pytest.raises(ModelNotFoundError) as caught:
            resolve(ref)
        assert caught.value.hint
        assert caught.value.ref == str(ref)
    with pytest.raises(ModelNotFoundError, match="while offline"):
        resolve("a/b", offline=True)


def test_a_checkpoint_is_not_a_pair(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match="got a checkpoint") as caught:
        resolve(tmp_path)
    assert caught.value.hint == f"make a pair of it with `miloco-edge quantize {tmp_path}`"
    assert resolve_checkpoint(tmp_path) == tmp_path
    with pytest.raises(ModelNotFoundError, match=r"with a config\.json"):
        resolve_checkpoint(tmp_path.parent)


@pytest.mark.parametrize("ref", ["http://hub.local:8001/v1", "https://hub.local/v1"])
def test_an_engine_elsewhere(ref: str) -> None:
    with pytest.raises(ModelNotFoundError, match="expected a model on this machine"):
        parse(ref)


@pytest.mark.parametrize(
    "ref", ["", "milco-7b", "a/b/c", "a b", "a/b:", "demo:..", "-", "a/b:Q4/x"]
)
def test_what_is_no_reference(ref: str, cache: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(ref)
    assert caught.value.hint


def test_references() -> None:
    assert parse("miloco-7b").card is cards.load_cards()["miloco-7b"]
    assert parse("qwen2.5-vl-7b:Q8_0").quant == "Q8_0"
    reference = parse("ggml-org/Qwen2.5-VL-7B-Instruct-GGUF:Q8_0")
    assert (reference.repo, reference.quant) == ("ggml-org/Qwen2.5-VL-7B-Instruct-GGUF", "Q8_0")
    assert reference.card is cards.load_cards()["qwen2.5-vl-7b"]
    assert parse("someone/else").card is None


def test_an_existing_path_wins_over_a_repository_and_an_alias_over_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path / "some" / "pair")
    write_pair(tmp_path / "miloco-7b")
    assert resolve("some/pair").text == Path("some/pair/tiny-Q4_0.gguf")
    assert parse("miloco-7b").repo is not None
    assert resolve("./miloco-7b").name == "tiny-Q4_0"


def test_the_default_model(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cards"
    folder.mkdir()
    for card in cards.cards_folder().glob("*.toml"):
        shutil.copy(card, folder)
    monkeypatch.setattr(cards, "cards_folder", lambda: folder)
    cards.load_cards.cache_clear()
    try:
        with pytest.raises(ModelNotFoundError, match="expected a model at"):
            resolve(None)
        write_pair(folder / "demo" / "pair")
        with caplog.at_level(logging.WARNING):
            files = resolve(None)
        assert files.name == "demo"
        assert "demo" in caplog.text
        text, _ = write_pair(tmp_path / "mine")
        monkeypatch.setenv("MILOCO_EDGE_MODEL", str(text))
        caplog.clear()
        assert resolve(None).text == text
        assert not caplog.text
    finally:
        cards.load_cards.cache_clear()


def test_a_file_that_a_card_names_is_known_by_it(tmp_path: Path) -> None:
    text, mmproj = write_pair(tmp_path)
    text = text.rename(tmp_path / "MiMo-VL-Miloco-7B_Q4_0.gguf")
    shutil.copy(mmproj, tmp_path / "mmproj-MiMo-VL-Miloco-7B_BF16.gguf")
    files = resolve(text)
    assert files.mmproj.name == "mmproj-MiMo-VL-Miloco-7B_BF16.gguf"
    assert files.card is not None
    assert files.preprocessor.image_pixels[1] == 4096 * 28 * 28


def test_files_fetched_by_others_into_the_cache(cache: Path) -> None:
    """What `hf download` leaves: no record of ours, a branch, and blobs named by their sha256."""
    repo = cache / "models--some--one"
    commit = "c" * 40
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    text, mmproj = write_pair(repo / "blobs")
    blob = text.rename(repo / "blobs" / ("d" * 64))
    (snapshot / "m-Q4_0.gguf").symlink_to(blob)
    mmproj.rename(snapshot / "mmproj.gguf")
    files = resolve("some/one")
    assert files.name == "some/one:Q4_0"
    assert (files.sha256, files.mmproj_sha256) == ("d" * 64, None)


NAMES = ["m-Q4_K_M.gguf", "m-Q4_0.gguf", "m-Q8_0.gguf", "mmproj-m-F16.gguf", "mmproj-m-Q8_0.gguf"]


def test_choice_among_names() -> None:
    assert choose_text("r", NAMES) == "m-Q4_K_M.gguf"
    assert choose_text("r", NAMES[1:]) == "m-Q4_0.gguf"
    assert choose_text("r", NAMES, "q8_0") == "m-Q8_0.gguf"
    assert choose_text("r", ["only.gguf", *NAMES[3:]]) == "only.gguf"
    assert choose_mmproj("r", NAMES) == "mmproj-m-Q8_0.gguf"
    assert choose_mmproj("r", [*NAMES, "mmproj-m-BF16.gguf"]) == "mmproj-m-BF16.gguf"
    assert choose_mmproj("r", ["x-mmproj-f16.gguf"]) == "x-mmproj-f16.gguf"


@pytest.mark.parametrize(
    ("names", "quant", "message"),
    [
        (["a.gguf", "b.gguf"], None, r"expected one text model, got a\.gguf, b\.gguf"),
        (NAMES, "Q2_K", r"expected one Q2_K, got m-Q4_0\.gguf, m-Q4_K_M\.gguf, m-Q8_0\.gguf"),
        (["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"], None, "got parts"),
        ([], None, "got none"),
    ],
)
def test_choice_that_cannot_be_made(names: list[str], quant: str | None, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        choose_text("r", names, quant)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("m-Q4_K_M.gguf", "Q4_K_M", True), ("m-Q4_K_M.gguf", "Q4_K", False),
        ("m.q4_0.gguf", "Q4_0", True), ("m_Q4_0.gguf", "Q4_0", True),
        ("m-BF16.gguf", "F16", False), ("m-Q4_0_4_4.gguf", "Q4_0", False),
        ("m-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", True), ("mQ4_0.gguf", "Q4_0", False),
    ],
)  # fmt: skip
def test_type_in_a_name(name: str, kind: str, expected: bool) -> None:
    assert has_type(name, kind) is expected
