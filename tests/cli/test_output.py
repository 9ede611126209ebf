"""What commands print."""

import io
import json
import os
import re
import sys
import time

import pytest

from miloco_edge.cli.output import Output
from miloco_edge.cli.progress import progress_bar


def test_a_table_in_a_pipe_keeps_each_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "mmproj-miloco-edge-demo-fit-9MB.gguf"
    Output().table(("file", "what"), [(name, "long " * 30)])
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("file")
    assert row.startswith(f"{name}  long")
    assert len(row) < 250


def test_a_table_shows_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ("The sign says [open]", "[/closed] is gone", "It smiles :smile:")
    Output().table(("text",), [(text,) for text in texts])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == ["text", *texts]


def test_a_bar_tells_rate_and_time_left_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich: stderr is a terminal
    for wanted in (False, True):
        monkeypatch.setattr(Output, "progress_wanted", lambda _, wanted=wanted: wanted)
        with progress_bar(Output(), "quantize", in_bytes=True) as on_progress:
            for done in range(1, 4):
                on_progress(done << 20, 8 << 20)
                time.sleep(0.01)
        drawn = capsys.readouterr().err
        assert bool(drawn) == wanted
    assert "quantize" in drawn and "3.0/8.0 MiB" in drawn
    assert re.search(r"[\d.]+ .?B/s", drawn) and re.search(r"\d:\d\d:\d\d", drawn)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_json_whatever_stdout_can_say(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    document = {"path": os.fsdecode(b"caf\xe9.mp4"), "text": "有人在看书 😀"}
    Output().line(document)
    assert isinstance(stdout.buffer, io.BytesIO)
    assert json.loads(stdout.buffer.getvalue().decode(encoding)) == document
