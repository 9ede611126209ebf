"""`miloco-edge doctor`: what works on this machine, and what to do about what does not.

What is compiled is asked in processes of their own, so nothing here imports llama.cpp or OpenCV
before they have been seen to load.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from miloco_edge.cli.options import json_option
from miloco_edge.cli.output import Output, counted
from miloco_edge.errors import MilocoEdgeError, ModelNotFoundError
from miloco_edge.measure.checks import (
    Finding,
    check_build,
    check_clock,
    check_disk,
    check_gpu,
    check_memory,
    check_opencv,
    check_python,
)
from miloco_edge.measure.host import (
    available_memory_bytes,
    cpu_flags,
    describe_host,
    find_gpus,
)
from miloco_edge.measure.probe import probe
from miloco_edge.registry import cache, check_pair, read_header, resolve
from miloco_edge.registry.verify import verify

if TYPE_CHECKING:
    from miloco_edge.hub.settings import MqttSink

_CONTEXT = 8192  # Engine.load's own
_TIMEOUT_S = 5.0
_MARKS = {"ok": "ok", "warning": "warn", "problem": "FAIL", "unknown": "?"}


@click.command("doctor")
@click.option("--model", metavar="REF", help="The model to look at; the default one otherwise.")
@click.option("--verify", "hashes", is_flag=True, help="Hash the model's files; minutes for 7B.")
@click.option(
    "--config",
    "home",
    type=click.Path(path_type=Path),
    metavar="home.toml",
    help="Look at the cameras and brokers of a home as well.",
)
@click.option("--camera", "cameras", multiple=True, metavar="SOURCE", help="Repeatable.")
@json_option
def doctor_command(
    output: Output, *, model: str | None, hashes: bool, home: Path | None, cameras: tuple[str, ...]
) -> None:
    """Say what works here, and what to do about what does not. Exit with 1 on a problem."""
    findings: list[Finding] = []
    for finding in _examine(model, hashes, home, cameras):
        findings.append(finding)
        if not output.as_json:
            output.text(f"{_MARKS[finding.status]:<5}{finding.name}: {finding.found}")
            if finding.fix:
                output.text(f"     fix: {finding.fix}")
    ill = any(finding.status == "problem" for finding in findings)
    if output.as_json:
        output.data({"ok": not ill, "findings": [asdict(finding) for finding in findings]})
    if ill:
        click.get_current_context().exit(1)


def _examine(
    model: str | None, hashes: bool, home: Path | None, cameras: tuple[str, ...]
) -> Iterator[Finding]:
    """Look at one thing after the other; what needs a part that does not load is left out."""
    wanted = _pinned("llama-cpp-python")
    llama, opencv = probe("llama"), probe("opencv")
    yield check_python(sys.version_info[:3])
    yield from check_build(
        llama, cpu_flags(), importlib.metadata.version("llama-cpp-python"), wanted
    )
    if llama.said is not None:
        yield check_gpu(find_gpus(), llama.said["gpu_backend"], wanted)
    yield check_opencv(opencv)
    yield from _model(model, hashes, loads=llama.said is not None)
    if opencv.said is not None:
        yield from _home(home, cameras)
    elif home is not None or cameras:
        yield Finding("cameras", "unknown", "not looked at, since OpenCV does not load")
    yield check_clock(time.time(), Path(__file__).stat().st_mtime, _synchronized())
    folder = cache.cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    yield check_disk(str(there), shutil.disk_usage(there).free)


def _model(model: str | None, hashes: bool, *, loads: bool) -> Iterator[Finding]:
    """The pair of files: whether it is there, sound, the one that was made, and small enough."""
    try:
        files = resolve(model)
        text, mmproj = read_header(files.text), read_header(files.mmproj)
        check_pair(text, mmproj)
        sums = verify(files) if hashes else {}
    except ModelNotFoundError as error:
        yield Finding("model", "problem" if model else "warning", str(error), error.hint)
        return
    except MilocoEdgeError as error:
        yield Finding("model", "problem", str(error), error.hint)
        return
    unstated = [name for name, same in sums.items() if same is None]
    said = f"{files.name}, {files.file_type}: {files.text.name} and {files.mmproj.name} fit"
    if unstated:
        yield Finding(
            "model", "ok", f"{said}; nobody states a checksum of {' and '.join(unstated)}"
        )
    else:
        yield Finding(
            "model", "ok", f"{said}; " + ("checksums are right" if sums else "not hashed")
        )
    if loads:
        from miloco_edge.measure.facts import facts_of

        facts = facts_of(text, mmproj)
        yield check_memory(
            facts.text_bytes + facts.mmproj_bytes,
            facts.kv_bytes * _CONTEXT,
            available_memory_bytes(),
            describe_host().memory_bytes,
        )


def _home(home: Path | None, cameras: tuple[str, ...]) -> Iterator[Finding]:
    """Cameras and brokers, each tried once."""
    from miloco_edge.hub import config
    from miloco_edge.hub.settings import MqttSink
    from miloco_edge.video.address import masked

    for source in cameras:
        yield _camera(f"camera {masked(source)}", source)
    if home is None:
        return
    try:
        read = config.read(home)
    except MilocoEdgeError as error:
        yield Finding("home", "problem", str(error), error.hint)
        return
    yield Finding(
        "home", "ok", f"{counted(len(read.cameras), 'camera')}, {counted(len(read.rules), 'rule')}"
    )
    for name, camera in read.cameras.items():
        yield _camera(f"camera {name}", camera.source)
    for sink in read.sinks.values():
        if isinstance(sink, MqttSink):
            yield _broker(sink)
    where = read.journal.path.parent.resolve()
    if where.is_dir():
        free = shutil.disk_usage(where).free
        yield check_disk(f"the journal, {where}", free, move="the journal elsewhere (journal.path)")


def _camera(name: str, source: Any) -> Finding:
    """Whether a camera shows a picture, and how soon."""
    from miloco_edge.video.address import Address
    from miloco_edge.video.camera import source_at

    began, stop = time.monotonic(), threading.Event()
    try:
        address = source if isinstance(source, Address) else Address.parse(source)
        shots = source_at(address, timeout_s=_TIMEOUT_S).shots(stop, fps=2)
        shot = next(shots, None)
        stop.set()
        deque(shots, maxlen=0)  # it lets go of the camera
    except MilocoEdgeError as error:
        return Finding(name, "problem", str(error), error.hint)
    if shot is None:
        return Finding(name, "problem", "it shows nothing", "look whether it is switched on")
    height, width, _ = shot.pixels.shape
    took = time.monotonic() - began
    return Finding(name, "ok", f"{width}x{height}, the first picture after {took:.1f} s")


def _broker(sink: MqttSink) -> Finding:
    """Whether a broker lets us in, with the home's certificates and login."""
    name, where = f"broker {sink.name}", f"{sink.host}:{sink.port}"
    try:
        from miloco_edge.serve.mqtt_client import try_once
    except ModuleNotFoundError:
        return Finding(
            name, "problem", "the extra mqtt is missing", "pip install 'miloco-edge[mqtt]'"
        )
    try:
        try_once(sink, _TIMEOUT_S)
    except OSError as error:
        return Finding(
            name, "problem", f"expected a broker at {where}, got: {error}",
            "start it (`systemctl start mosquitto`), or correct [sink.mqtt] in home.toml and the "
            f"secrets sink.{sink.name}.user and sink.{sink.name}.password",
        )  # fmt: skip
    tls = " with TLS" if sink.tls else ""
    return Finding(name, "ok", f"{where} let us in{tls}")


def _pinned(package: str) -> str:
    """The version of a package that this one is made for."""
    for requirement in importlib.metadata.requires("miloco-edge") or ():
        found = re.match(rf"{re.escape(package)}\s*==\s*([\w.]+)", requirement)
        if found:
            return found.group(1)
    raise LookupError(f"expected a pinned version of {package}, found none")


def _synchronized() -> bool | None:
    """Whether the clock follows a time server; None where systemd does not say."""
    if shutil.which("timedatectl") is None:
        return None
    command = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())
