"""Charades-STA (jiyanggao/TALL): when a sentence holds in a video.

charades_sta_test.txt has one line a sentence, `VIDEO START END##SENTENCE`:

    3MSZA 24.3 30.4##person turn a light on.

Videos are VIDEO.mp4 (Charades_v1 or Charades_v1_480).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from miloco_edge.errors import ManifestError
from miloco_edge.evaluate.convert.source import Source
from miloco_edge.evaluate.manifest import Item

# lmms-eval's words (charades_sta/charades.yaml), its slip of the pen included.
_QUESTION = (
    "Please find the visual event described by a sentence in the video, determining its starting "
    "and ending times. The format should be: 'The event happens in the start time - end time'. For "
    "example, The event 'person turn a light on' happens in the 24.3 - 30.4 seonds. Now I will "
    "give you the textual sentence: {sentence}. Please return its start time and end time."
)
_LINE = re.compile(r"(?P<video>\w+) (?P<start>[\d.]+) (?P<end>[\d.]+)##(?P<sentence>.+)")


def read(source: Source) -> Iterator[Item]:
    """The sentences of the test split."""
    (path, *_) = source.files("charades_sta_test.txt", "the annotations")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ManifestError(path, number, f"expected VIDEO START END##SENTENCE, got {line:.60}")
        start, end = float(found["start"]), float(found["end"])
        if start >= end:
            source.skipped["no length"] += 1
            continue
        media = source.media(f"{found['video']}.mp4")
        if media is not None:
            yield Item(
                id=f"Charades-STA/{number}-{found['video']}",
                task="temporal",
                media=(media,),
                question=_QUESTION.format(sentence=found["sentence"].rstrip(". ")),
                target=(start, end),
                group=found["video"],
                split="test",
            )
