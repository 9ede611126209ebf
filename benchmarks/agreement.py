"""How often transformers and our runtime give the same answer, greedily, to the same pixels.

    python -m benchmarks.agreement CHECKPOINT PAIR --manifest test.jsonl --work DIR --out FILE.json

transformers computes CHECKPOINT in float32 and is given our sampled, resized frames; PAIR is
CHECKPOINT's BF16 pair. WORK holds both sides' answers: a run that was stopped goes on. Needs the
extra `reference`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.host import describe_host
from miloco_edge import Engine
from miloco_edge.evaluate.journal import Journal
from miloco_edge.evaluate.judge import judge, plain
from miloco_edge.evaluate.manifest import Item, read_manifest
from miloco_edge.evaluate.run import Settings, ask_all, prompt, read_clip
from miloco_edge.prompt import ChatFacts, Text, chat_facts, opening, question
from miloco_edge.prompt.thinking import split_thinking
from miloco_edge.video import FittedClip

Answer = Callable[[Item], str]


@dataclass(frozen=True)
class Difference:
    """An item that was not answered alike."""

    id: str
    ours: str
    theirs: str
    judged_alike: bool
    """Whether both say the same yes, no, letter or text, for all that matters to a score."""


@dataclass(frozen=True)
class Agreement:
    """What was found."""

    items: int
    same_text: float
    """Share of answers with the same words, case and marks aside."""
    judged_alike: float
    """Share of answers that are both right or both wrong, and say the same yes or no."""
    differences: tuple[Difference, ...]


def agreement(
    engine: Engine, theirs: Answer, items: Sequence[Item], settings: Settings, work: Path
) -> Agreement:
    """Compare the engine's answers with `theirs`, both kept in the folder `work`."""
    work.mkdir(parents=True, exist_ok=True)
    with Journal(work / "ours.jsonl") as journal:
        replies = ask_all(engine, items, settings, journal)
    path = work / "theirs.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    different: list[Difference] = []
    for item, reply in zip(items, replies, strict=True):
        if item.id not in known:
            known[item.id] = theirs(item)
            path.write_text(json.dumps(known, ensure_ascii=False, indent=1))
        text = known[item.id]
        if plain(text) == plain(reply.text):
            continue
        # Grounding is read by the engine alone: elsewhere the words must be the same.
        first, second = (judge(item, said) for said in (reply.text, text))
        alike = item.task in ("binary", "choice", "exact") and first == second
        different.append(Difference(item.id, reply.text, text, alike))
    n = len(items)
    return Agreement(
        n,
        1 - len(different) / n,
        1 - sum(not each.judged_alike for each in different) / n,
        tuple(different),
    )


def transformers_side(checkpoint: Path, engine: Engine, settings: Settings) -> Answer:
    """Greedy answers of transformers to the frames that the engine would be shown."""
    oracle = import_module("tests.reference.transformers_oracle")
    loaded = oracle.load(checkpoint)
    facts = chat_facts(getattr(loaded.tokenizer, "chat_template", None))

    def answer(item: Item) -> str:
        clip = read_clip(item, settings)
        fitted = None if clip is None else engine.fit(clip, settings.visual_tokens)
        return _generate(oracle, loaded, facts, fitted, prompt(item), settings)

    return answer


def _generate(
    oracle: Any,
    loaded: Any,
    facts: ChatFacts,
    clip: FittedClip | None,
    words: str,
    settings: Settings,
) -> str:
    import torch

    media, inputs = _media(oracle, clip)
    pieces: list[Text] = [*opening(facts.system), Text(media)]
    pieces += question(words, history=(), think=settings.think, facts=facts)
    text = "".join(piece.text for piece in pieces)
    ids = loaded.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    image, video = loaded.tokenizer.convert_tokens_to_ids([oracle.IMAGE, oracle.VIDEO])
    inputs["mm_token_type_ids"] = (ids == image).int() + 2 * (ids == video).int()
    ends = loaded.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    budget = settings.max_tokens + (settings.think_tokens if settings.think else 0)
    with torch.no_grad():
        found = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=budget,
            do_sample=False, eos_token_id=ends, pad_token_id=ends[-1], **inputs,
        )  # fmt: skip
    said = loaded.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
    return split_thinking(said)[1]


def _media(oracle: Any, clip: FittedClip | None) -> tuple[str, dict[str, Any]]:
    """The template's words for a clip with a pad for each visual token, and its pixels."""
    import torch

    if clip is None:
        return "", {}
    moving = clip.layout == "video" and len(clip.frames) > 1
    kind, pad = ("video", oracle.VIDEO) if moving else ("image", oracle.IMAGE)
    groups = [list(clip.frames)] if moving else [[frame] for frame in clip.frames]
    every = [oracle.patches(group) for group in groups]
    words = "".join(
        f"<|vision_start|>{pad * int(grid.prod() // 4)}<|vision_end|>" for _, grid in every
    )
    values, grids = (torch.cat(part) for part in zip(*every, strict=True))
    name = "pixel_values_videos" if moving else "pixel_values"
    inputs: dict[str, Any] = {name: values, f"{kind}_grid_thw": grids}
    if moving:
        inputs["second_per_grid_ts"] = torch.tensor([2 / clip.fps])
    return words, inputs


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="answers are kept here")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="ask so many questions at most")
    parser.add_argument("--think", action="store_true")
    parser.add_argument("--max-tokens", type=int, default=Settings.max_tokens)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    items = read_manifest(arguments.manifest, arguments.limit)
    settings = Settings(think=arguments.think, max_tokens=arguments.max_tokens)
    with Engine.load(arguments.pair, threads=arguments.threads) as engine:
        theirs = transformers_side(arguments.checkpoint, engine, settings)
        found = agreement(engine, theirs, items, settings, arguments.work)
    print(f"same words {found.same_text:.2%}, judged alike {found.judged_alike:.2%}")
    document = {
        "host": describe_host(),
        "manifest": arguments.manifest.name,
        "settings": asdict(settings),
        **asdict(found),
    }
    arguments.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
