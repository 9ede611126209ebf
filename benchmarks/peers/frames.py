"""The requests: frames cut from a film or taken from a manifest, written once for everybody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from benchmarks.peers.request import Request
from miloco_edge import Clip, registry
from miloco_edge.evaluate.manifest import read_manifest
from miloco_edge.evaluate.run import Settings, prompt, read_clip
from miloco_edge.llama import MAX_TOKENS
from miloco_edge.measure.film import mark
from miloco_edge.prompt import ChatFacts, chat_facts, question
from miloco_edge.types import RGB, Preprocessor
from miloco_edge.video import fit

FRAMES, SIZE, FPS = 6, (448, 252), 2.0
QUESTION = "What is the person in the picture doing?"
# One token each in Qwen2's vocabulary, with the space before it.
_WORDS = ("the", "room", "door", "man", "light", "dog", "window", "chair")
_VISUAL_TOKENS = 1024
Suffix = Literal[".png", ".jpg"]
"""How pictures are written: without loss, or as cameras send them."""


def facts_of(model: Path) -> ChatFacts:
    """What the model's template says, read from the file's header."""
    files = registry.resolve(model)
    template = registry.read_header(files.text).metadata.get("tokenizer.chat_template")
    return chat_facts(None if template is None else str(template))


def user_words(text: str, facts: ChatFacts) -> str:
    """A question as our own engine puts it: with /no_think where the model knows it."""
    return question(text, history=(), think=False, facts=facts)[0].text


def from_film(
    film: Path,
    count: int,
    folder: Path,
    facts: ChatFacts,
    tokens: int,
    frames: int = FRAMES,
    suffix: Suffix = ".png",
) -> list[Request]:
    """`count` windows of three seconds, none like another."""
    requests = []
    for number in range(count):
        start = number % 20 / 20
        window = Clip.from_file(film, frames=frames, start=start, end=start + 3)
        pictures = [Image.fromarray(frame.pixels).resize(SIZE) for frame in window.frames]
        clip = Clip.from_frames([np.asarray(picture).copy() for picture in pictures], fps=FPS)
        mark(clip, number)
        pixels = [frame.pixels for frame in clip.frames]
        at = folder / f"{number:04}"
        requests.append(_write(at, pixels, FPS, QUESTION, facts, tokens, suffix))
    return requests


def from_manifest(
    manifest: Path,
    count: int,
    folder: Path,
    facts: ChatFacts,
    tokens: int,
    preprocessor: Preprocessor,
) -> list[Request]:
    """The first `count` questions about videos, with frames as our engine fits them."""

    def videos() -> Iterator[Request]:
        settings = Settings()
        for item in read_manifest(manifest, None):
            clip = read_clip(item, settings)
            if clip is None or clip.layout != "video":
                continue
            fitted = fit(clip, preprocessor, _VISUAL_TOKENS, max_tokens_per_patch=MAX_TOKENS)
            if len(fitted.frames) > 1:
                yield _write(
                    folder / item.id, fitted.frames, fitted.fps, prompt(item), facts, tokens
                )

    return list(islice(videos(), count))


def text_alone(depth: int, facts: ChatFacts, tokens: int) -> Request:
    """A question of about `depth` tokens without pictures: decode at a depth equal for all."""
    words = " ".join(_WORDS[i * i % len(_WORDS)] for i in range(depth))
    return Request((), FPS, facts.system, user_words(words, facts), tokens)


def _write(
    folder: Path,
    frames: Sequence[RGB],
    fps: float,
    text: str,
    facts: ChatFacts,
    tokens: int,
    suffix: Suffix = ".png",
) -> Request:
    folder.mkdir(parents=True)
    paths = []
    for number, frame in enumerate(frames):
        path = folder / f"{number}{suffix}"
        Image.fromarray(frame).save(path)
        paths.append(str(path))
    film = _film(folder / "film.avi", frames, fps)
    return Request(tuple(paths), fps, facts.system, user_words(text, facts), tokens, str(film))


def _film(path: Path, frames: Sequence[RGB], fps: float) -> Path:
    """The frames as a film without loss (FFV1)."""
    height, width, _ = frames[0].shape
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path
