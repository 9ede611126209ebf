from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthesize import TINY, synthesize
from benchmarks.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS
from quantize.checkpoint import open_checkpoint
from quantize.errors import CheckpointError, NotFoundError
from quantize.vocabulary import Kind, Vocabulary, read_vocabulary


def read(folder: Path) -> Vocabulary:
    return read_vocabulary(open_checkpoint(folder), TINY.vocab_size)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_every_id_has_a_token_and_a_kind(checkpoint: Path) -> None:
    vocabulary = read(checkpoint)
    first = vocabulary.tokens.index("<|endoftext|>")
    last = first + len(SPECIAL_TOKENS)
    assert len(vocabulary.tokens) == len(vocabulary.kinds) == TINY.vocab_size
    assert vocabulary.tokens[first:last] == list(SPECIAL_TOKENS)
    assert set(vocabulary.kinds[:first]) == {Kind.NORMAL}
    assert vocabulary.tokens[last:] == [f"[PAD{i}]" for i in range(last, TINY.vocab_size)]
    assert set(vocabulary.kinds[last:]) == {Kind.UNUSED}
    kinds = dict(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
    assert kinds["<|im_end|>"] == Kind.CONTROL
    assert kinds["<tool_call>"] == Kind.USER_DEFINED
    assert kinds["<|fim_pad|>"] == Kind.CONTROL  # not special by its file, but it looks so


def test_roles_come_in_the_converters_order(checkpoint: Path) -> None:
    vocabulary = read(checkpoint)
    first = vocabulary.tokens.index("<|endoftext|>")
    assert list(vocabulary.special_ids.items()) == [
        ("eos", first + 2), ("pad", first), ("bos", first),
    ]  # fmt: skip
    assert vocabulary.add_special == {"bos": False, "eos": False}


def test_a_token_may_be_written_as_an_object(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", TINY)
    edit(
        folder / "tokenizer_config.json",
        lambda c: c.update(eos_token={"content": "<|endoftext|>", "lstrip": False}),
    )
    vocabulary = read(folder)
    assert vocabulary.special_ids["eos"] == vocabulary.tokens.index("<|endoftext|>")


def test_merges_as_pairs_and_as_texts_are_the_same(tmp_path: Path, checkpoint: Path) -> None:
    pairs = read(synthesize(tmp_path / "tiny", TINY, merges_as_pairs=True))
    assert pairs.merges == read(checkpoint).merges
    assert pairs.merges[0] == "y e"


def test_a_space_inside_a_merge_is_encoded(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", TINY, merges_as_pairs=True)
    edit(folder / "tokenizer.json", lambda t: t["model"]["merges"].append(["a b", "c"]))
    assert read(folder).merges[-1] == "a\u0120b c"


@pytest.mark.parametrize("where", ["tokenizer_config", "jinja", "json"])
def test_the_chat_template_is_found_wherever_it_is(tmp_path: Path, where: Any) -> None:
    folder = synthesize(tmp_path / "tiny", TINY, chat_template_where=where)
    assert read(folder).chat_template == CHAT_TEMPLATE


def test_no_chat_template_is_no_error(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", TINY, chat_template_where="nowhere")
    assert read(folder).chat_template is None


def test_tokens_added_by_the_configuration_alone_count(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", TINY)
    token = {"content": "<extra>", "special": False}
    edit(
        folder / "tokenizer_config.json",
        lambda c: c["added_tokens_decoder"].update({"767": token}),
    )
    vocabulary = read(folder)
    assert (vocabulary.tokens[767], vocabulary.kinds[767]) == ("<extra>", Kind.USER_DEFINED)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t["model"].update(type="WordPiece"), "WordPiece"),
        (lambda t: t["pre_tokenizer"]["pretokenizers"].pop(0), "pre-tokenizer"),
        (lambda t: t["model"]["vocab"].update(x=768), "from 0 to 767"),
        (lambda t: t["model"]["vocab"].update(x=-1), "from 0 to 767"),
        (lambda t: t["model"]["vocab"].update(x="7"), "from 0 to 767"),
        (lambda t: t.pop("model"), "tokenizers library"),
        (lambda t: t["model"].update(vocab=[]), "tokenizers library"),
        (lambda t: t.update(added_tokens=[7]), "tokenizers library"),
    ],
)
def test_another_tokenizer_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    folder = synthesize(tmp_path / "tiny", TINY)
    edit(folder / "tokenizer.json", change)
    with pytest.raises(CheckpointError, match=says):
        read(folder)


def test_a_missing_tokenizer_is_not_found(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "tiny", TINY)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(NotFoundError, match=r"tokenizer\.json"):
        read(folder)
