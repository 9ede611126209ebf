"""Ask a model the questions of a manifest, one look a clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from miloco_edge.engine import Engine, Scene
from miloco_edge.engine.economy import EXACT
from miloco_edge.errors import ContextFullError, MediaError
from miloco_edge.evaluate.journal import Journal, Reply, key_of
from miloco_edge.evaluate.manifest import LETTERS, Item
from miloco_edge.types import Budget, Layout
from miloco_edge.video import Clip

_NO_TIME = 1e-6
# The words with which lmms-eval asks for a letter (videomme, mmmu).
_LETTER = "Answer with the option's letter from the given choices directly."

Progress = Callable[[int, int], None]
"""Called with the answers that are known and the number of items."""


@dataclass(frozen=True)
class Settings:
    """How the questions are asked. Greedy by default, so that a second run says the same."""

    fps: float = 2.0
    frames: int | None = None
    visual_tokens: int | None = None
    layout: Layout | None = None
    think: bool = False
    think_tokens: int = 1024
    max_tokens: int = 128
    deadline: float | None = None
    """Seconds for each question, the look at its clip included."""
    smart_home: bool = False
    language: str = "en"
    """Of the smart-home prompt."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


def ask_all(
    engine: Engine,
    items: Sequence[Item],
    settings: Settings,
    journal: Journal,
    progress: Progress = lambda done, total: None,
) -> list[Reply]:
    """The model's reply to each item, in order: from the journal where it is there, else asked.

    Neighbours about the same stretch of the same media share one scene. Media that cannot be shown
    make a reply without an answer, which counts as wrong. Raises what `Engine.look` and
    `Scene.ask` raise beside MediaError and ContextFullError.
    """
    asked = {"settings": asdict(settings), "model": _fingerprint(engine)}
    keys = [key_of(item, asked) for item in items]
    replies = {i: journal.find(item, keys[i]) for i, item in enumerate(items)}
    left = [i for i, reply in replies.items() if reply is None]
    done = len(items) - len(left)
    progress(done, len(items))
    for _, group in groupby(left, lambda i: items[i].clip):
        members = list(group)
        for i, reply in _ask_about(engine, items, members, settings):
            journal.keep(keys[i], reply)
            replies[i] = reply
            done += 1
            progress(done, len(items))
    return [reply for reply in replies.values() if reply is not None]


def _fingerprint(engine: Engine) -> list[Any]:
    """What answers depend on: both files, and what is known of them beside."""
    files = engine.files
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in (files.text, files.mmproj)]
    found = [*stats, asdict(files.preprocessor), asdict(files.calibration)]
    return found if engine.economy == EXACT else [*found, asdict(engine.economy)]


def _ask_about(
    engine: Engine,
    items: Sequence[Item],
    members: Sequence[int],
    settings: Settings,
) -> Iterator[tuple[int, Reply]]:
    """Ask all questions about one clip."""
    began = time.perf_counter()
    budget = Budget(visual_tokens=settings.visual_tokens, seconds=settings.deadline)
    try:
        clip = read_clip(items[members[0]], settings)
        scene = engine.look(
            clip,
            budget=budget,
            smart_home=settings.smart_home,
            language="zh" if settings.language == "zh" else "en",
        )
    except (MediaError, ContextFullError) as error:
        for i in members:
            yield i, _refusal(items[i], error)
        return
    look_s = time.perf_counter() - began
    with scene:
        for i in members:
            try:
                reply = _ask(scene, items[i], settings, look_s)
            except ContextFullError as error:
                reply = _refusal(items[i], error)
            yield i, replace(reply, look_s=look_s if i == members[0] else None)


def read_clip(item: Item, settings: Settings) -> Clip | None:
    """What an item is about, sampled as the settings say; None for text alone.

    Raises MediaError where it cannot be shown.
    """
    if not item.media:
        return None
    if len(item.media) > 1:
        return Clip.from_images(item.media)
    (path,) = item.media
    read = Clip.from_folder if path.is_dir() else Clip.from_file
    clip = read(path, fps=settings.fps, frames=settings.frames, start=item.start, end=item.end)
    return clip if settings.layout is None else replace(clip, layout=settings.layout)


def _ask(scene: Scene, item: Item, settings: Settings, look_s: float) -> Reply:
    left = None if settings.deadline is None else max(settings.deadline - look_s, _NO_TIME)
    began = time.perf_counter()
    answer = scene.ask(
        prompt(item),
        think=settings.think,
        budget=Budget(
            answer_tokens=settings.max_tokens, thinking_tokens=settings.think_tokens, seconds=left
        ),
        sampling=replace(
            scene.sampling,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=settings.seed,
        ),
    )
    answer_s = time.perf_counter() - began
    rules = [item.question] if item.task == "binary" else []
    decided = scene.decide(rules, as_written=True, budget=Budget(seconds=left))
    decision = decided[0] if decided else None
    return Reply(
        id=item.id,
        text=answer.text,
        finish_reason=answer.finish_reason,
        thought=answer.thought,
        own_tags=answer.thinking_opened_by == answer.thinking_closed_by == "model",
        boxes=answer.boxes,
        points=answer.points,
        spans=answer.spans,
        p_yes=decision.p_yes if decision else None,
        outside_mass=decision.outside_mass if decision else None,
        decision=decision.answer if decision else None,
        look_s=None,
        answer_s=answer_s,
        visual_tokens=answer.usage.visual_tokens,
        thinking_tokens=answer.usage.thinking_tokens,
        completion_tokens=answer.usage.completion_tokens,
    )


def _refusal(item: Item, error: Exception) -> Reply:
    return Reply(
        item.id, "", "refused", False, False, (), (), (), None, None,
        "unknown" if item.task == "binary" else None, None, 0.0, 0, 0, 0, str(error),
    )  # fmt: skip


def prompt(item: Item) -> str:
    """What the model is asked: a choice lists its options and asks for a letter.

    Options that are nothing but their letters are in the picture and are not listed.
    """
    if item.task != "choice":
        return item.question
    if item.options == tuple(LETTERS[: len(item.options)]):
        return f"{item.question}\n{_LETTER}"
    listed = [f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False)]
    return "\n".join((item.question, *listed, _LETTER))
