"""Rounds in which everybody has a turn, and what comes of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.process import Peer, PeerError
from benchmarks.peers.request import Reading, Request

Say = Callable[[str], None]


@dataclass(frozen=True)
class Contestant:
    """Somebody who can be started, or the reason why not."""

    name: str
    layout: str
    """How it is shown the frames: "video" or "images"."""
    files: str
    """What it computes with, in words."""
    start: Callable[[], Peer] | None = None
    missing: str | None = None
    warms_up: bool = True
    """Whether it is to be asked once before it counts; False: it does so itself."""

    def __post_init__(self) -> None:
        if (self.start is None) == (self.missing is None):
            raise ValueError(f"{self.name}: expected either a start or why it is missing")


@dataclass
class Record:
    """What one contestant did."""

    contestant: Contestant
    about: Mapping[str, Any] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    """In the order of the requests."""
    decode: list[Reading] = field(default_factory=list)
    """Of the question without pictures, once a round."""
    peak_bytes: list[int] = field(default_factory=list)
    failed: str | None = None


def hold(
    contestants: Sequence[Contestant],
    rounds: Sequence[Sequence[Request]],
    warm_up: Request,
    decode: Request | None,
    say: Say = lambda line: None,
) -> list[Record]:
    """Give everybody the same requests, round after round, in an order drawn anew each round.

    Each is started for its turn, asked once to warm up, and ended after it, so that the machine is
    its own. One that fails is left out of what follows and its reason kept.
    """
    records = [Record(contestant) for contestant in contestants]
    for number, requests in enumerate(rounds):
        for record in turns(records, number):
            say(f"round {number + 1} of {len(rounds)}: {record.contestant.name}")
            try:
                _turn(record, requests, warm_up, decode)
            except PeerError as error:
                record.failed = str(error)
                say(f"  failed: {error}")
    return records


def turns(records: Sequence[Record], number: int) -> list[Record]:
    """Who is still in, in the order of a round: the same for the same number."""
    able = [r for r in records if r.failed is None and r.contestant.missing is None]
    random.Random(number).shuffle(able)
    return able


def _turn(
    record: Record, requests: Sequence[Request], warm_up: Request, decode: Request | None
) -> None:
    assert record.contestant.start is not None
    peer = record.contestant.start()
    try:
        record.about = peer.about
        if record.contestant.warms_up:
            peer.answer(warm_up)
        readings = [peer.answer(request) for request in requests]
        if decode is not None:
            record.decode.append(peer.answer(decode))
        record.peak_bytes.append(peer.peak_resident_bytes())
        record.readings += readings
    finally:
        peer.close()
