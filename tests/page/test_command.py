"""`miloco-edge demo`: for this machine alone, with no word to any other, and clean afterwards."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from miloco_edge.cli.main import main
from miloco_edge.hosts import is_local
from miloco_edge.page.guard import Guard

# Loaded by the command's own Python at its start: every connection that it makes is written down.
_WATCH = """
import os, socket
real = socket.socket.connect
def connect(self, address):
    with open(os.environ["CONNECTIONS"], "a") as file:
        print(address[0] if isinstance(address, tuple) else "local", file=file)
    return real(self, address)
socket.socket.connect = connect
"""


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.evil.example", False),
        ("::1", True),
        ("[::1]", False),
        ("127.0.0.2", True),
        ("0.0.0.0", False),
        ("hub.local", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, alone: bool) -> None:
    assert is_local(host) == alone


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost:7860", 200),
        ("https://evil.example", 403),
        ("http://localhost:3000", 403),
        ("null", 403),
    ],
)
def test_no_other_site_talks_to_the_page(local: bool, origin: str | None, status: int) -> None:
    guarded: Any = Guard(PlainTextResponse("seen"), local=local)
    client = TestClient(guarded, base_url="http://localhost:7860")
    headers = {} if origin is None else {"Origin": origin}
    assert client.post("/upload", headers=headers).status_code == status


def test_the_page_is_served_and_calls_nobody(pair: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WATCH)
    connections, uploads = tmp_path / "connections", tmp_path / "uploads"
    uploads.mkdir()
    connections.touch()
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "CONNECTIONS": str(connections),
        "TMPDIR": str(uploads),
    }
    command = [sys.executable, "-m", "miloco_edge", "demo", "--model", str(pair), "--port", "0"]
    with subprocess.Popen(
        [*command, "--context", "1024", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as page:
        assert page.stdout is not None and page.stderr is not None
        try:
            address = json.loads(page.stdout.readline())["url"]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, timeout=60) as answer:
                text = answer.read().decode()
                assert "default-src 'self'" in answer.headers["content-security-policy"]
            rebound = urllib.request.Request(address, headers={"Host": "elsewhere.example:7860"})
            with pytest.raises(urllib.error.HTTPError, match="421"):
                urllib.request.urlopen(rebound, timeout=60)
            assert "fonts.googleapis.com" not in text and "cdnjs" not in text
            assert list(uploads.iterdir()), "uploads have a folder of their own"
        finally:
            page.send_signal(signal.SIGINT)
            said = page.stderr.read()
            assert page.wait(60) == 130, said
        assert "interrupted" not in said, "Ctrl-C is its normal end"
        assert page.stdout.read() == ""
    assert not list(uploads.iterdir()), "and it is gone"
    assert set(connections.read_text().split()) <= {"127.0.0.1", "local"}


def test_without_gradio_it_fails_as_other_commands_do_without_their_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="1"):
        main(["demo"])
    assert "hint: pip install 'miloco-edge[demo]'" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(pair: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "miloco_edge", "demo", "--model", str(pair), "--port", port],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: expected to listen at 127.0.0.1:{port}" in done.stderr
    assert "hint: --port 0" in done.stderr
