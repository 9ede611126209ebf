"""Toyota Smarthome, trimmed: activities of daily living, labelled by their file names.

A clip is ACTIVITY_pPERSON_rREPETITION_vVIEW_cCAMERA.mp4: WatchTV_p25_r01_v14_c07.mp4,
Cook.Cleandishes_p02_r00_v02_c03.mp4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from miloco_edge.evaluate.convert.rules import Rule, Shown, ask_rules
from miloco_edge.evaluate.convert.source import Source
from miloco_edge.evaluate.manifest import Item

RULES = (
    Rule("watch_tv", "Someone is watching TV", frozenset({"WatchTV"})),
    Rule("reading", "Someone is reading", frozenset({"Readbook"})),
    Rule("phone~telephone", "Someone is using a phone", frozenset({"Usetelephone"})),
    # Not the report's esports: nobody plays here.
    Rule("laptop", "Someone is using a laptop", frozenset({"Uselaptop"})),
)
# Some file names of the data set lack the v of the view.
_NAME = re.compile(r"(?P<activity>[A-Za-z.]+)_(?P<person>p\d+)_r\d+_v?\d+_c\d+")


def read(source: Source) -> Iterator[Item]:
    """The activities that the report's Table 1 has, each with as many clips of others."""
    shown: list[Shown] = []
    for path in source.files("*.mp4", "clips"):
        found = _NAME.fullmatch(path.stem)
        if found is None:
            source.skipped["name not of the data set"] += 1
            continue
        activity = found["activity"]
        shown.append(Shown(path, activity, frozenset({activity}), found["person"]))
    yield from ask_rules("Toyota-Smarthome", shown, RULES, None)
