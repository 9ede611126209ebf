"""HaGRID and HaGRIDv2 (hukenovs/hagrid): hand gestures in pictures.

Annotations are JSON, one file a gesture (annotations/test/call.json, ann_test/call.json), from a
picture's name to its labels and person:

    {"03487280-224f-490d-8e36-6c5f48e3d7a0": {"bboxes": [[0.02, 0.86, 0.07, 0.11], …],
     "labels": ["no_gesture", "one"], "user_id": "bb138d5db200f29385f…", …}}

Pictures are NAME.jpg in a folder of the gesture. The test split is taken where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

from miloco_edge.errors import ManifestError
from miloco_edge.evaluate.convert.rules import Rule, Shown, ask_rules
from miloco_edge.evaluate.convert.source import Source, field, read_json
from miloco_edge.evaluate.manifest import Item

RULES = (
    Rule("ok", "Someone is making the OK sign", frozenset({"ok"})),
    Rule("thumbs_up", "Someone is making the thumbs up sign", frozenset({"like"})),
    Rule("v_sign", "Someone is making the V sign", frozenset({"peace", "peace_inverted"})),
    # Thumb and little finger out, as in a shaka, but held to the ear by many.
    Rule("shaka~call", "Someone is making the shaka sign", frozenset({"call"})),
    # "stop" is a palm, too.
    Rule("open_palm", "Someone is showing an open palm", frozenset({"palm"}),
         near=frozenset({"stop", "stop_inverted"})),
)  # fmt: skip


def read(source: Source) -> Iterator[Item]:
    """The five gestures of Table 1, each with as many pictures of other gestures."""
    paths = source.files("ann*/**/*.json", "annotations")
    test = [path for path in paths if "test" in path.parent.name.lower()]
    shown: list[Shown] = []
    for path in test or paths:
        annotations = read_json(path)
        if not isinstance(annotations, dict):
            raise ManifestError(path, None, "expected an object of pictures, got something else")
        for number, (name, picture) in enumerate(annotations.items(), 1):
            labels = field(picture, "labels", list, path, number)
            person = field(picture, "user_id", str, path, number)
            media = source.media(f"{name}.jpg")
            if media is not None:
                shown.append(Shown(media, path.stem, frozenset(labels), person))
    yield from ask_rules("HaGRID", shown, RULES, "test" if test else None)
