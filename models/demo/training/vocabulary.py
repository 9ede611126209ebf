"""The demo model's tokenizer: its own byte-level BPE, cut as Qwen2 cuts, with Qwen2.5's specials.

python -m models.demo.training.vocabulary OUT
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from benchmarks.tokenizer import (
    QWEN2_REGEX,
    SPECIAL_TOKENS,
    WORDS,
    tokenizer,
    write_json,
    write_tokenizer_config,
)
from miloco_edge.prompt.chat import EMPTY_THINK, MIMO_SYSTEM, NO_THINK, SMART_HOME
from models.demo.questions import questions
from models.demo.scenes import render
from models.demo.training.conversation import spoken

SIZE = 1280
"""Tokens in all, special ones included."""
SCENES = 1500
QUESTIONS = 8


def learn(out: Path, scenes: int = SCENES) -> Path:
    """Learn the merges from what is asked and said about training scenes; write tokenizer.json."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(_corpus(scenes), trainer)
    learnt: dict[str, Any] = json.loads(learner.to_str())["model"]
    tokens = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    special = {token: len(tokens) + i for i, token in enumerate(SPECIAL_TOKENS)}
    merges = [(left, right) for left, right in learnt["merges"]]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "tokenizer.json", tokenizer(tokens, merges, special, as_pairs=False))
    write_tokenizer_config(out, special, "tokenizer_config")
    return out


def _corpus(scenes: int) -> Iterator[str]:
    yield from (WORDS, MIMO_SYSTEM, NO_THINK, EMPTY_THINK, *SMART_HOME.values())
    for seed in range(scenes):
        for question in questions(render(seed), QUESTIONS):
            yield question.question
            yield spoken(question, think=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Learn the demo model's tokenizer.")
    parser.add_argument("out", type=Path)
    print(learn(parser.parse_args().out))


if __name__ == "__main__":
    main()
