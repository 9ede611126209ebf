"""The comparison with other runtimes, without any of them."""

from __future__ import annotations

import io
import json
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers import frames, http, report
from benchmarks.peers.__main__ import NAMES, contestants, parse
from benchmarks.peers.contest import Contestant, Record, hold, turns
from benchmarks.peers.mtmd_cli import MtmdCli
from benchmarks.peers.process import PeerError, Process
from benchmarks.peers.request import Reading, Request
from miloco_edge import Clip
from miloco_edge.measure.film import write_film
from miloco_edge.prompt import ChatFacts

ASKED = Request((), 2.0, "You see.", "Who? /no_think", 4)


class Fake:
    """A peer that answers in so many seconds, or fails at its nth question."""

    about: Mapping[str, Any] = {"version": "1"}

    def __init__(self, seconds: float, fails_at: int | None = None) -> None:
        self.seconds, self.fails_at, self.asked = seconds, fails_at, 0
        self.closed = False

    def answer(self, request: Request) -> Reading:
        self.asked += 1
        if self.asked == self.fails_at:
            raise PeerError("it ended (exit -6): invalid chunk type")
        return Reading(self.seconds, self.seconds + 3, "A man.", 100, 4)

    def peak_resident_bytes(self) -> int:
        return 2_000_000_000

    def close(self) -> None:
        self.closed = True


def contest(*peers: tuple[str, Fake | None], rounds: int = 2) -> list[Record]:
    entered = [
        Contestant(name, "video", "the same files", None if fake is None else lambda f=fake: f,
                   "not here" if fake is None else None)
        for name, fake in peers
    ]  # fmt: skip
    return hold(entered, [[ASKED, ASKED]] * rounds, ASKED, ASKED)


def test_everybody_answers_the_same_and_is_ended() -> None:
    one, other = Fake(1), Fake(2)
    records = contest(("one", one), ("other", other), ("third", None))
    # A warm-up, two questions and the one without pictures, in each of two rounds.
    assert one.asked == other.asked == 8
    assert [len(r.readings) for r in records] == [4, 4, 0]
    assert [len(r.decode) for r in records] == [2, 2, 0]
    assert one.closed and other.closed


def test_one_that_fails_is_left_out_of_what_follows() -> None:
    fragile = Fake(2, fails_at=6)
    first, second = contest(("one", Fake(1)), ("fragile", fragile), rounds=3)
    assert first.failed is None and len(first.readings) == 6
    assert second.failed is not None and "invalid chunk" in second.failed
    assert len(second.readings) == 2, "the whole round that it did not fail in"
    assert fragile.asked == 6 and fragile.closed


def test_the_order_differs_between_rounds_and_is_the_same_again() -> None:
    records = [Record(Contestant(str(i), "video", "", lambda: Fake(1))) for i in range(6)]
    orders = [[r.contestant.name for r in turns(records, n)] for n in range(4)]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert orders[2] == [r.contestant.name for r in turns(records, 2)]


def test_a_contestant_is_here_or_says_why_not() -> None:
    with pytest.raises(ValueError, match="either a start or why"):
        Contestant("one", "video", "")


ABOUT = {
    "host": {"cpu": {"model": "A CPU"}, "cores": 2, "date": "2026-11-21T12:00:00+00:00"},
    "threads": 2, "rounds": 2, "requests": 2, "tokens": 4, "ours": ["miloco-edge"],
    "file_bytes": {"the same files": 1_500_000_000}, "kv_bytes": 500_000_000,
}  # fmt: skip


def test_the_report_compares_and_names_who_is_missing() -> None:
    records = contest(("miloco-edge", Fake(2)), ("slow", Fake(5)), ("absent", None))
    records[0].readings = [replace(r, own={"python_share": 0.01}) for r in records[0].readings]
    found = report.document(records, ["miloco-edge"], ABOUT)
    ours, slow, absent = found["contestants"]
    assert slow["first_token_times"]["miloco-edge"]["value"] == pytest.approx(2.5)
    assert ours["first_token_times"]["miloco-edge"]["value"] == 1
    assert slow["decode_tokens_per_s"]["p50"]["value"] == pytest.approx(1)
    assert ours["python_share"]["p50"]["value"] == pytest.approx(0.01)
    assert absent["not_measured"] == "not here" and found["missing"] == ["absent"]
    json.dumps(found)
    picture = np.asarray(report.plot(found).convert("L"))
    # The bar of who takes 5 s is longer than that of who takes 2.
    quick, slow_bar = (
        np.count_nonzero(picture[60 + row : 200 + row, 230:] < 250) for row in (0, 160)
    )
    assert slow_bar > 1.5 * quick
    table = report.markdown(found)
    assert "Not measured: 1 of 3." in table and "- absent: not here" in table
    assert "| slow | video | the same files | 5 (5 to 5) | 2.5 (2.5 to 2.5) |" in table
    assert "1.00% of its time outside llama.cpp; peak memory 1.00 times" in table


def test_answers_are_compared_by_their_words() -> None:
    records = contest(("miloco-edge", Fake(1)), (report.REFERENCE, Fake(1)))
    said = [replace(r, answer=a) for r, a in zip(records[0].readings, "abcd", strict=True)]
    records[0].readings = said
    records[1].readings = [replace(r, answer=a) for r, a in zip(said, "A!bcx", strict=False)]
    found = report.document(records, ["miloco-edge"], ABOUT)["contestants"]
    assert found[0]["same_answer"] == {"same": 1, "of": 4}
    assert found[1]["same_answer"] is None


def test_a_rate_needs_two_tokens() -> None:
    assert Reading(1, 3, "", answer_tokens=5).tokens_per_s == 2
    assert Reading(1, 3, "", answer_tokens=1).tokens_per_s is None
    assert Reading(1, 3, "").tokens_per_s is None


def test_a_stream_is_read_to_its_usage() -> None:
    said: list[dict[str, Any]] = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": "A "}}]},
        {"choices": [{"delta": {"content": "man"}}], "timings": {"prompt_ms": 5}},
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
    ]
    lines = [f"data: {json.dumps(event)}\n".encode() for event in said]
    stream = io.BytesIO(b"\n".join([*lines, b": a comment\n", b"data: [DONE]\n", b"data: no\n"]))
    reading = http.read_stream(stream, time.perf_counter())
    assert reading.answer == "A man"
    assert (reading.prompt_tokens, reading.answer_tokens) == (9, 2)
    assert 0 <= reading.first_token_s <= reading.total_s
    assert reading.own["prompt_ms"] == 5


def test_chunks_are_counted_where_no_usage_is_told() -> None:
    stream = io.BytesIO(b'data: {"choices": [{"delta": {"content": "yes"}}]}\n\n' * 3)
    assert http.read_stream(stream, time.perf_counter()).answer_tokens == 3


def test_an_error_in_a_stream_is_one() -> None:
    stream = io.BytesIO(b'data: {"error": {"message": "no slot"}}\n')
    with pytest.raises(PeerError, match="no slot"):
        http.read_stream(stream, time.perf_counter())


@pytest.fixture
def film(tmp_path: Path) -> Request:
    """A question about two frames."""
    paths = []
    for i in range(2):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(np.full((28, 56, 3), 90 * i, np.uint8)).save(paths[-1])
    (tmp_path / "film.avi").write_bytes(b"a film")
    return replace(ASKED, frames=tuple(paths), video=str(tmp_path / "film.avi"))


def test_a_body_has_pictures_first_and_is_greedy(film: Request) -> None:
    body = http.body(film, cache_prompt=False)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "You see."}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert body["temperature"] == 0 and body["max_tokens"] == 4 and body["cache_prompt"] is False
    parts = http.body(film, as_video=True)["messages"][1]["content"]
    assert [part["type"] for part in parts] == ["input_video", "text"]


def test_a_request_survives_its_way_to_a_process(film: Request) -> None:
    assert Request.from_json(json.loads(json.dumps(film.as_json()))) == film


PROGRAM = f"""#!{sys.executable}
import sys
print("\\n> ", end="", flush=True)
pictures = 0
for line in sys.stdin:
    line = line.strip()
    if line.startswith("/image"):
        pictures += 1
        print("loaded\\n", end="")
    elif line == "/quit":
        break
    elif line != "/clear":
        if pictures > 2:
            print("invalid chunk type", file=sys.stderr)
            sys.exit(6)
        print("\\n", end="", flush=True)
        print(f"saw {{pictures}}, {{line}}", end="\\n" if "ends" in line else "", flush=True)
    print("\\n> ", end="", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "llama-mtmd-cli"
    path.write_text(PROGRAM)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def test_the_cli_is_asked_at_a_terminal(program: Path, film: Request) -> None:
    cli = MtmdCli(program, Path("a"), Path("b"), threads=1, context=512, system="S", tokens=4)
    try:
        first = cli.answer(film)
        # Its program dies of a second question with pictures, so it must be another one.
        second = cli.answer(replace(film, question="it ends"))
        third = cli.answer(ASKED)
        assert first.answer == "saw 2, Who? /no_think" and first.answer_tokens == 4
        assert second.answer == "saw 2, it ends" and second.answer_tokens is None
        assert third.answer == "saw 2, Who? /no_think", "no pictures: the same process"
        assert 0 < first.own["computed_s"] <= first.first_token_s <= first.total_s
        assert cli.peak_resident_bytes() > 1_000_000
    finally:
        cli.close()


def test_a_process_that_dies_leaves_its_last_words() -> None:
    process = Process([sys.executable, "-c", "import sys; sys.exit('no such model')"])
    process.popen.wait(30)
    assert "exit 1): no such model" in str(process.fail("it ended"))
    with pytest.raises(PeerError):
        process.peak_resident_bytes()
    process.close()


def test_windows_are_unlike_and_of_the_size_compared(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", size=(320, 180))
    facts = ChatFacts("You see.", thinks=True)
    one, other = frames.from_film(film, 2, tmp_path / "out", facts, 8)
    assert one.question.endswith("doing? /no_think") and one.system == "You see."
    assert len(one.frames) == 6 and one.video is not None
    with Image.open(one.frames[0]) as picture:
        assert picture.size == (448, 252)
    assert Path(one.frames[0]).read_bytes() != Path(other.frames[0]).read_bytes()
    assert Clip.from_file(Path(one.video), fps=2.0).frames[0].pixels.shape == (252, 448, 3)
    sent, next_sent = frames.from_film(film, 2, tmp_path / "jpeg", facts, 8, 1, ".jpg")
    content = http.body(sent)["messages"][1]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    with Image.open(sent.frames[0]) as picture, Image.open(next_sent.frames[0]) as next_picture:
        assert picture.format == "JPEG" and picture.tobytes() != next_picture.tobytes()
    alone = frames.text_alone(50, facts, 8)
    assert len(alone.question.split()) == 51 and not alone.frames


def test_who_cannot_be_started_says_what_is_missing(pair: Path, tmp_path: Path) -> None:
    parsed = parse([str(pair), "--out", str(tmp_path / "a.json")])
    found = {each.name: each for each in contestants(parsed, "S")}
    assert found["miloco-edge"].missing is None
    assert found["llama-cpp-python, chat handler"].missing is None
    assert found["llama-server"].missing == "no llama-server in --tools"
    assert found["llama-server, video"].layout == "video"
    assert found["OpenVINO GenAI"].missing == "no --openvino"
    assert found["transformers"].missing == "no --checkpoint"
    assert found["miloco-edge, tuned"].missing == "no --tuned"
    assert tuple(found) == NAMES
    given = ["--tuned", str(pair), "--only", "miloco-edge, tuned"]
    parsed = parse([str(pair), "--out", str(tmp_path / "a.json"), *given])
    able = [each.name for each in contestants(parsed, "S") if each.missing is None]
    assert able == ["miloco-edge, tuned"], "nobody is left out without a word"
