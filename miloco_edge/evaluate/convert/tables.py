"""Data sets of multiple choice that the hub keeps as Parquet tables.

Video-MME (lmms-lab/Video-MME, videomme/test-*.parquet): videoID, question_id, duration, question,
options ["A. Apples.", …], answer "A"; videos are videoID.mp4.

MMMU-Pro (MMMU/MMMU_Pro): the folders "standard (10 options)" and "vision" hold id, question,
options "['x', 'y']", answer, subject, and pictures {"bytes", "path"}: image_1 … image_7, named
"<image 1>" in question or options, or one `image` that shows the question, too.

MMLU-Pro (TIGER-Lab/MMLU-Pro, data/test-*.parquet): question_id, question, options, answer,
category; text alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from miloco_edge.errors import ManifestError
from miloco_edge.evaluate.convert.source import Source, field, read_parquet
from miloco_edge.evaluate.manifest import LETTERS, Item

# lmms-eval's words (videomme).
_VIDEO_MME = (
    "Select the best answer to the following multiple-choice question based on the video. Respond "
    "with only the letter (A, B, C, or D) of the correct option.\n{question}"
)
_IN_THE_PICTURE = "Answer the multiple-choice question in the picture."
_IMAGES = tuple(f"image_{i}" for i in range(1, 8))
_MOST_OPTIONS = 10


def read_video_mme(source: Source) -> Iterator[Item]:
    """Categories are short, medium and long videos; without subtitles."""
    columns = ("videoID", "question_id", "duration", "question", "options", "answer")
    for path in source.files("test-*.parquet", "the table"):
        for number, row in enumerate(read_parquet(path, columns), 1):
            video = field(row, "videoID", str, path, number)
            options = field(row, "options", list, path, number)
            media = source.media(f"{video}.mp4")
            if media is None:
                continue
            yield Item(
                id=f"Video-MME/{field(row, 'question_id', str, path, number)}",
                task="choice",
                media=(media,),
                question=_VIDEO_MME.format(question=field(row, "question", str, path, number)),
                target=_letter(row, options, path, number),
                options=tuple(re.sub(r"^[A-Z]\.\s*", "", option) for option in options),
                category=field(row, "duration", str, path, number),
                group=video,
                split="test",
            )


def read_mmlu_pro(source: Source) -> Iterator[Item]:
    """Categories are the subjects. The five worked examples of the usual prompt are left out."""
    columns = ("question_id", "question", "options", "answer", "category")
    for path in source.files("test-*.parquet", "the table"):
        for number, row in enumerate(read_parquet(path, columns), 1):
            options = field(row, "options", list, path, number)
            yield Item(
                id=f"MMLU-Pro/{field(row, 'question_id', int, path, number)}",
                task="choice",
                media=(),
                question=field(row, "question", str, path, number),
                target=_letter(row, options, path, number),
                options=tuple(options),
                category=field(row, "category", str, path, number),
                split="test",
            )


def read_mmmu_pro_standard(source: Source) -> Iterator[Item]:
    """Ten options; the pictures that a question names are written beside the manifest."""
    columns = ("id", "question", "options", "answer", "subject", *_IMAGES)
    for path in source.files("standard (10 options)/**/*.parquet", "the table"):
        for number, row in enumerate(read_parquet(path, columns), 1):
            options = _listed(field(row, "options", str, path, number), path, number)
            question = field(row, "question", str, path, number)
            id = field(row, "id", str, path, number)
            named = {int(i) for i in re.findall(r"<image ([1-7])>", f"{question} {options}")}
            pictures = [(f"{id}-{i}", row.get(f"image_{i}")) for i in sorted(named)]
            yield Item(
                id=f"MMMU-Pro (standard)/{id}",
                task="choice",
                media=tuple(_written(source, *each, path, number) for each in pictures),
                question=question,
                target=_letter(row, options, path, number),
                options=tuple(options),
                category=field(row, "subject", str, path, number),
                split="test",
            )


def read_mmmu_pro_vision(source: Source) -> Iterator[Item]:
    """Question and options are in the picture alone, so the options are bare letters here."""
    columns = ("id", "image", "options", "answer", "subject")
    for path in source.files("vision/**/*.parquet", "the table"):
        for number, row in enumerate(read_parquet(path, columns), 1):
            given = row.get("options")
            options = _listed(given, path, number) if given else [*LETTERS[:_MOST_OPTIONS]]
            id = field(row, "id", str, path, number)
            yield Item(
                id=f"MMMU-Pro (vision)/{id}",
                task="choice",
                media=(_written(source, f"{id}-vision", row.get("image"), path, number),),
                question=_IN_THE_PICTURE,
                target=_letter(row, options, path, number),
                options=tuple(LETTERS[: len(options)]),
                category=field(row, "subject", str, path, number),
                split="test",
            )


def _letter(row: dict[str, Any], options: Sequence[Any], path: Path, number: int) -> str:
    answer: str = field(row, "answer", str, path, number)
    if len(answer) != 1 or answer not in LETTERS[: len(options)]:
        raise ManifestError(
            path, number, f"answer: expected a letter of {len(options)} options, got {answer!r:.60}"
        )
    return answer


def _listed(text: str, path: Path, number: int) -> list[str]:
    """Options as MMMU-Pro writes them: a Python list in a text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ManifestError(path, number, f"options: expected a list, got {text:.60}") from error
    if not isinstance(value, list) or not all(isinstance(option, str) for option in value):
        raise ManifestError(path, number, f"options: expected a list of texts, got {text:.60}")
    return value


def _written(source: Source, name: str, picture: Any, path: Path, number: int) -> Path:
    """Write a picture of a table beside the manifest, as it is."""
    content = picture.get("bytes") if isinstance(picture, dict) else None
    if not content:
        raise ManifestError(path, number, f"expected the picture {name}, got none")
    folder = source.out.with_name(f"{source.out.stem}-media")
    folder.mkdir(exist_ok=True)
    ending = "png" if content.startswith(b"\x89PNG") else "jpg"
    file = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.{ending}"
    file.write_bytes(content)
    return file
