"""The page in Debian's Chromium, with the demo model behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from miloco_edge import Clip
from models.demo.clips import FOLDER
from tests.integration.page.visitor import WAIT_S, Visitor, enter, served

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--lang=en",
    "--force-device-scale-factor=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo model's page."""
    with served("demo", tmp_path_factory.mktemp("uploads")) as url:
        yield url


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Debian's Chromium, with a webcam that shows a test picture."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert browser and driver, "expected chromium and chromium-driver (apt-get install them)"
    options = ChromeOptions()
    options.binary_location = browser
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,1100"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(driver))
    chrome.set_page_load_timeout(WAIT_S)
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled clip of someone who is reading, in a form that Chromium plays as well."""
    path = tmp_path_factory.mktemp("film") / "reading.webm"
    clip = Clip.from_file(FOLDER / "reading.mp4", fps=8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 8, clip.frames[0].size)
    for frame in clip.frames:
        writer.write(frame.pixels[:, :, ::-1])
    writer.release()
    return path


@pytest.fixture
def visitor(chromium: Chrome, address: str) -> Iterator[Visitor]:
    """A visitor who has just opened the page. Nothing may have been fetched from elsewhere."""
    yield enter(chromium, address)
    log = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    sent = [entry for entry in log if entry["method"] == "Network.requestWillBeSent"]
    urls = [entry["params"]["request"]["url"] for entry in sent]
    assert urls
    here = ("http://127.0.0.1:", "data:", "blob:", "chrome")
    assert [url for url in urls if not url.startswith(here)] == []
    refused = [e["message"] for e in chromium.get_log("browser") if "Refused" in e["message"]]
    assert refused == [], "the page asks for nothing that its policy forbids"
