"""README alone, to a watched camera and an entity of Home Assistant at a real broker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.broker import Broker, Spy

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def typed(beginning: str) -> str:
    """The first line of README that begins so, as a reader would type it."""
    found = re.search(rf"^{re.escape(beginning)}.*$", README, re.MULTILINE)
    assert found is not None, f"README has no line that begins with {beginning!r}"
    return found[0]


def test_a_camera_is_watched_and_its_rule_becomes_an_entity(tmp_path: Path) -> None:
    """As written, but for the broker's port; nothing was pulled, so the demo model looks."""
    home = re.search(r"<!-- file: home.toml -->\n```toml\n(.*?)^```", README, re.M | re.S)
    assert home is not None and re.findall(r"^\[.*\]", home[1], re.M)[-1] == "[sink.mqtt]"
    shutil.copy(ROOT / "models" / "demo" / "clips" / "reading.mp4", tmp_path / "clip.mp4")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    watch = ["bash", "-c", f"exec {typed('miloco-edge watch --config home.toml  ')}"]
    (tmp_path / "broker").mkdir()
    with Broker(tmp_path / "broker") as broker, Spy(broker.port) as spy:
        (tmp_path / "home.toml").write_text(f"{home[1]}port = {broker.port}\n")
        looked = subprocess.run(
            ["bash", "-c", typed("miloco-edge doctor --config home.toml")],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert looked.returncode == 0, looked.stdout + looked.stderr
        assert "camera nursery: 224x168" in looked.stdout
        assert f"broker mqtt: 127.0.0.1:{broker.port} let us in" in looked.stdout
        with subprocess.Popen(
            watch, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
        ) as process:
            try:
                spy.wait("miloco_edge/nursery/reading/state", "ON")
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        (device, *_) = spy.documents("miloco_edge_nursery/config")
        assert device["components"]["rule_reading"]["platform"] == "binary_sensor"
        told = subprocess.run(
            ["bash", "-c", typed("miloco-edge journal --since")],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "Someone is reading" in told.stdout
