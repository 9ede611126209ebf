"""pull, list, show and rm, against a hub on this machine."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from miloco_edge.cli import models
from miloco_edge.cli.main import main
from miloco_edge.registry.cache import pulls_of
from tests.registry.conftest import cache as cache
from tests.registry.conftest import hub as hub
from tests.registry.gguf_bytes import (
    gguf,
    mmproj_keys,
    mmproj_tensors,
    text_keys,
    text_tensors,
    write_pair,
)
from tests.registry.hub_server import Hub

REPO = "someone/tiny-GGUF"
TEXT, MMPROJ = "tiny-Q4_0.gguf", "mmproj-tiny-BF16.gguf"


@pytest.fixture
def files() -> dict[str, bytes]:
    return {
        ".gitattributes": b"*.gguf filter=lfs",
        "README.md": b"# Tiny",
        "LICENSE": b"Do as you like.",
        TEXT: gguf(text_keys(), text_tensors()),
        "tiny-Q8_0.gguf": gguf([*text_keys(), ("x", "u32", 8)], text_tensors()),
        MMPROJ: gguf(mmproj_keys(), mmproj_tensors()),
        "mmproj-tiny-F16.gguf": gguf([*mmproj_keys(), ("x", "u32", 16)], mmproj_tensors()),
    }


@pytest.fixture
def commit(hub: Hub, files: dict[str, bytes]) -> str:
    return hub.add(REPO, files, licence="apache-2.0")


class Result:
    """What one command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*args: str | Path) -> Result:
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, captured.out, captured.err)

    return run


def test_pull_takes_the_pair_and_little_else(
    run: Any, hub: Hub, commit: str, cache: Path, files: dict[str, bytes]
) -> None:
    result = run("pull", REPO, "--json")
    assert result.code == 0, result.err
    document = result.document
    assert document["revision"] == commit
    assert [Path(path).name for path in document["files"]] == [TEXT, MMPROJ]
    assert set(document["pulled"]) == {TEXT, MMPROJ, "LICENSE"}
    assert document["pulled"][TEXT] == {
        "bytes": len(files[TEXT]), "sha256": sha256(files[TEXT]).hexdigest(),
    }  # fmt: skip
    assert document["pulled"]["LICENSE"]["sha256"] is None
    for name in (TEXT, MMPROJ):
        assert len(hub.downloads(name)) == 1
    (pull,) = pulls_of(REPO)
    assert (pull.asked, pull.licence, pull.accepted) == ("main", "apache-2.0", False)
    assert Path(document["files"][0]).is_relative_to(cache)
    assert Path(document["files"][0]).read_bytes() == files[TEXT]


def test_pull_says_what_it_did_in_words(run: Any, commit: str) -> None:
    result = run("pull", REPO)
    assert result.code == 0
    assert [Path(line).name for line in result.out.splitlines()] == [TEXT, MMPROJ]
    assert "licence: apache-2.0" in result.err
    assert commit in result.err


def test_pull_again_fetches_nothing(run: Any, hub: Hub, commit: str) -> None:
    run("pull", REPO)
    before = len(hub.downloads(".gguf"))
    assert run("pull", REPO).code == 0
    assert len(hub.downloads(".gguf")) == before


def test_another_quantization_by_name(run: Any, commit: str) -> None:
    assert run("pull", f"{REPO}:q8_0").code == 0
    assert run("pull", REPO).code == 0
    (pull,) = pulls_of(REPO)
    assert {TEXT, "tiny-Q8_0.gguf", MMPROJ} < set(pull.files)
    shown = run("show", f"{REPO}:Q8_0", "--json").document
    assert Path(shown["text"]["path"]).name == "tiny-Q8_0.gguf"
    result = run("pull", f"{REPO}:Q2_K")
    assert result.code == 3
    assert "tiny-Q4_0.gguf, tiny-Q8_0.gguf" in result.err


def test_a_dropped_download_goes_on_where_it_was(
    run: Any, hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # it is 10 MiB
    hub.cut[MMPROJ] = 5000
    assert run("pull", REPO, "--json").code == 0
    first, second = hub.downloads(MMPROJ)
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 5000


def test_what_was_whole_is_kept_when_the_hub_goes_away(
    run: Any, hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.damaged.add(TEXT)
    assert run("pull", REPO).code == 4
    hub.damaged.clear()
    assert run("pull", REPO).code == 0
    assert len(hub.downloads(TEXT)) == 2
    assert len(hub.downloads(MMPROJ)) == 1


def test_a_damaged_download_is_refused_and_removed(run: Any, hub: Hub, commit: str) -> None:
    hub.damaged.add(MMPROJ)
    result = run("pull", REPO, "--json")
    assert result.code == 4
    assert result.document["error"]["type"] == "GGUFError"
    assert "expected sha256" in result.err
    assert pulls_of(REPO) == ()
    assert run("show", REPO).code == 3


def test_a_pair_that_cannot_be_served_is_refused(
    run: Any, hub: Hub, files: dict[str, bytes]
) -> None:
    files[TEXT] = files[MMPROJ]
    hub.add(REPO, files, licence="mit")
    result = run("pull", REPO)
    assert result.code == 4
    assert "expected a text model, got an mmproj" in result.err


def test_offline_before_and_after_a_pull(
    run: Any, hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("pull", "show"):
        result = run(command, REPO, "--offline", "--json")
        assert result.code == 3
        assert result.document["error"]["type"] == "ModelNotFoundError"
        assert f"miloco-edge pull {REPO}" in result.err
    assert hub.requests == []
    assert run("pull", REPO).code == 0
    asked = len(hub.requests)
    for command in ("pull", "show"):
        result = run(command, REPO, "--offline", "--json")
        assert result.code == 0
        assert result.document["revision"] == commit
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run("pull", REPO).code == 0
    assert "without --offline and HF_HUB_OFFLINE" in run("pull", "org/other").err
    assert len(hub.requests) == asked


def test_a_hub_that_cannot_be_reached(
    run: Any, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = run("pull", REPO, "--json")
    assert result.code == 3
    assert "http://127.0.0.1:9" in result.document["error"]["message"]
    assert result.document["error"]["hint"]


def test_what_the_hub_refuses(run: Any, hub: Hub, commit: str, files: dict[str, bytes]) -> None:
    result = run("pull", "someone/nothing")
    assert result.code == 3
    assert "expected the repository someone/nothing" in result.err
    result = run("pull", REPO, "--revision", "v9")
    assert result.code == 3
    assert "expected revision v9" in result.err
    hub.add("someone/gated", files, gated=True)
    result = run("pull", "someone/gated")
    assert result.code == 3
    assert "HF_TOKEN" in result.err
    hub.add("someone/texts", {"README.md": b"nothing to see"})
    result = run("pull", "someone/texts")
    assert result.code == 3
    assert "got neither" in result.err
    hub.status = 500
    result = run("pull", REPO)
    assert result.code == 3
    assert "got 500" in result.err


def test_a_token_opens_a_gated_repository(
    run: Any, hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("someone/gated", files, gated=True, licence="mit")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    result = run("pull", "someone/gated")
    assert result.code == 0
    assert "hf_good" not in result.out + result.err


def test_a_revision_is_pinned(run: Any, hub: Hub, commit: str, files: dict[str, bytes]) -> None:
    newer = hub.add(REPO, files | {TEXT: gguf([*text_keys(), ("new", "bool", 1)], text_tensors())})
    assert run("pull", REPO, "--revision", commit, "--json").document["revision"] == commit
    shown = run("show", REPO, "--json").document
    assert (shown["revision"], commit in shown["text"]["path"]) == (commit, True)
    assert run("pull", REPO, "--json").document["revision"] == newer
    assert run("show", REPO, "--json").document["revision"] == newer
    assert [pull.revision for pull in pulls_of(REPO)] == [commit, newer]


@pytest.mark.parametrize("licence", ["other", None])
def test_a_licence_that_asks_for_something(
    licence: str | None, run: Any, hub: Hub, files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hub.add(REPO, files, licence=licence)
    result = run("pull", REPO, "--json")
    assert result.code == 1
    assert "--accept-license" in result.document["error"]["hint"]
    monkeypatch.setattr(models, "can_ask", lambda output: True)
    monkeypatch.setattr("click.confirm", lambda *args, **more: False)
    result = run("pull", REPO)
    assert result.code == 1
    assert f"licence: {licence or 'unknown'}" in result.err
    assert hub.downloads(".gguf") == []
    monkeypatch.setattr("click.confirm", lambda *args, **more: True)
    assert run("pull", REPO).code == 0
    monkeypatch.setattr("click.confirm", pytest.fail)
    assert run("pull", REPO).code == 0  # it was recorded
    assert pulls_of(REPO)[-1].accepted


def test_the_cards_licence_wins_over_the_hubs(run: Any, hub: Hub, files: dict[str, bytes]) -> None:
    repo = "xiaomi-open-source/Xiaomi-MiMo-VL-Miloco-7B-GGUF"
    theirs = {
        "MiMo-VL-Miloco-7B_Q4_0.gguf": files[TEXT],
        "mmproj-MiMo-VL-Miloco-7B_BF16.gguf": files[MMPROJ],
    }
    hub.add(repo, theirs, licence="apache-2.0")
    result = run("pull", "miloco-7b")
    assert result.code == 1
    assert "non-commercial" in result.err
    result = run("pull", "miloco-7b", "--accept-license", "--json")
    assert result.code == 0
    assert result.document["name"] == "miloco-7b"
    assert pulls_of(repo)[0].accepted
    shown = run("show", "--verify", "--json").document  # it is the default now
    assert shown["name"] == "miloco-7b"
    assert shown["text"]["verified"] is shown["mmproj"]["verified"] is True
    assert shown["preprocessor"]["max_frames"] == 256
    (listed,) = [entry for entry in run("list", "--json").document if entry["name"] == "miloco-7b"]
    assert (listed["here"], listed["default"]) == (True, True)


def test_a_card_whose_files_are_gone(run: Any, hub: Hub, files: dict[str, bytes]) -> None:
    hub.add("xiaomi-open-source/Xiaomi-MiMo-VL-Miloco-7B-GGUF", files)
    result = run("pull", "miloco-7b", "--accept-license")
    assert result.code == 3
    assert "expected MiMo-VL-Miloco-7B_Q4_0.gguf" in result.err


def test_a_checkpoint_is_pulled_whole(run: Any, hub: Hub) -> None:
    files = {
        "config.json": b"{}",
        "model-00001-of-00001.safetensors": bytes(3000),
        "tokenizer.json": b"{}",
    }
    hub.add("someone/checkpoint", files, licence="mit")
    result = run("pull", "someone/checkpoint", "--json")
    assert result.code == 0, result.err
    (folder,) = result.document["files"]
    assert {path.name for path in Path(folder).iterdir()} == set(files)
    result = run("show", "someone/checkpoint")
    assert result.code == 3
    assert "miloco-edge quantize someone/checkpoint" in result.err


def test_list_names_what_is_here(run: Any, hub: Hub, commit: str, cache: Path) -> None:
    entries = {entry["name"]: entry for entry in run("list", "--json").document}
    assert {"demo", "miloco-7b", "miloco-7b-checkpoint"} < set(entries)
    assert not any(entry["here"] for name, entry in entries.items() if name != "demo")
    assert REPO not in entries
    run("pull", REPO)
    entry = {entry["name"]: entry for entry in run("list", "--json").document}[REPO]
    assert (entry["here"], entry["revision"]) == (True, commit)
    table = run("list").out
    assert REPO in table
    assert "NAME" in table


def test_show_a_card_that_is_not_here(run: Any, cache: Path) -> None:
    result = run("show", "miloco-7b")
    assert result.code == 0
    for words in ("Shaka", "98.3", "private data", "Table 2", "miloco-edge pull miloco-7b"):
        assert words in result.out
    document = run("show", "miloco-7b", "--json").document
    assert document["here"] is False
    assert document["text"] is None
    assert [len(table["rows"]) for table in document["card"]["scores"]] == [10, 19]
    assert run("show", "miloco-7b", "--verify").code == 3


def test_show_files_of_ones_own(run: Any, tmp_path: Path) -> None:
    text, _ = write_pair(tmp_path)
    document = run("show", text, "--json").document
    assert document["card"] is None
    assert document["text"]["file_type"] == "Q4_0"
    assert document["text"]["context"] == 512
    assert document["text"]["sha256"] is None
    result = run("show", text, "--verify")
    assert result.code == 0
    assert "no checksum is known" in result.err
    assert run("show", text, "--verify", "--json").document["text"]["verified"] is None


def test_verify_finds_a_flipped_bit_anywhere(run: Any, hub: Hub, commit: str) -> None:
    files = run("pull", REPO, "--json").document["files"]
    assert run("show", REPO, "--verify").code == 0
    for name in files:
        blob = Path(name).resolve()
        sound = blob.read_bytes()
        for place in (0, 100, len(sound) // 2, len(sound) - 1):
            flipped = bytearray(sound)
            flipped[place] ^= 0x10
            blob.write_bytes(flipped)
            result = run("show", REPO, "--verify", "--json")
            assert result.code == 4
            assert result.document["error"]["hint"]
        blob.write_bytes(sound)
    assert run("show", REPO, "--verify").code == 0


def test_verify_by_the_manifest(run: Any, pair: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(pair, folder)
    document = run("show", folder, "--verify", "--json").document
    assert document["manifest"] is True
    assert document["text"]["verified"] is document["mmproj"]["verified"] is True
    (mmproj,) = folder.glob("mmproj*.gguf")
    with mmproj.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 0x80]))
    assert run("show", folder, "--verify").code == 4


def test_rm(run: Any, hub: Hub, commit: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("pull", REPO)
    result = run("rm", REPO, "--json")
    assert result.code == 2
    assert "--yes" in result.document["error"]["message"]
    assert run("rm", REPO).code == 2
    monkeypatch.setattr(models, "can_ask", lambda output: True)
    monkeypatch.setattr("builtins.input", lambda prompt="": "n")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt="": "n")
    assert run("rm", REPO).code == 130
    assert pulls_of(REPO)
    document = run("rm", REPO, "--yes", "--json").document
    assert document["repo"] == REPO
    assert document["revisions"] == [commit]
    assert document["bytes"] > 1000
    assert not any(cache.glob("models--*"))
    assert run("rm", REPO, "--yes").code == 3
    assert run("show", REPO).code == 3


def test_a_damaged_record_is_said(run: Any, hub: Hub, commit: str, cache: Path) -> None:
    run("pull", REPO)
    (record,) = cache.glob("models--*/miloco-edge.json")
    for content in ("{", "[]", '{"pulls": [{}]}', '{"pulls": [{"files": []}]}'):
        record.write_text(content)
        result = run("show", REPO)
        assert result.code == 4
        assert f"remove {record}" in result.err


def test_rm_leaves_files_of_ones_own(run: Any, tmp_path: Path, cache: Path) -> None:
    text, mmproj = write_pair(tmp_path / "mine")
    for ref in (text, text.parent, "demo"):
        assert run("rm", ref, "--yes").code == 2
    assert run("rm", f"{REPO}:Q4_0", "--yes").code == 2
    assert text.exists()
    assert mmproj.exists()
