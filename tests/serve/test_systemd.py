"""Type=notify, against a socket of ours as systemd's."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from miloco_edge.serve.systemd import service, tell, watchdog_s


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        yield manager


def test_ready_alive_and_stopping(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000"}
    with service(lambda: None, environ):
        said = [manager.recv(100) for _ in range(3)]
    assert said == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    while (last := manager.recv(100)) == b"WATCHDOG=1":
        pass
    assert last == b"STOPPING=1"


@pytest.mark.parametrize("hangs", [True, False])
def test_who_is_not_alive_is_not_said_to_be(
    manager: socket.socket, hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    called, release = threading.Event(), threading.Event()

    def alive() -> None:
        called.set()
        if hangs:
            release.wait(60)
        raise RuntimeError("the hub's thread is gone")

    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000"}
    with service(alive, environ):
        assert called.wait(60)
        assert manager.recv(100) == b"READY=1"
        manager.settimeout(0.3)
        with pytest.raises(TimeoutError):
            manager.recv(100)
    release.set()
    assert hangs or "the hub's thread is gone" in caplog.text


def test_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0miloco-edge-test-{os.getpid()}")
        manager.settimeout(60)
        tell("READY=1", {"NOTIFY_SOCKET": f"@miloco-edge-test-{os.getpid()}"})
        assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with service(lambda: None, {}):
        pass
    assert caplog.text == ""
    tell("READY=1", {"NOTIFY_SOCKET": "/nowhere/at/all"})
    assert "expected to tell the service manager READY=1" in caplog.text


def test_how_often_the_watchdog_wants_to_hear() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}) == 15
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_s({"WATCHDOG_USEC": "0"}) is watchdog_s({"WATCHDOG_USEC": "x"}) is None
