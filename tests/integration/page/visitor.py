"""What a visitor does on the page.

Screenshots are those of docs/page.md: MILOCO_EDGE_SCREENSHOTS=docs/pictures writes them there.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 300


@contextmanager
def served(model: str | Path, uploads: Path) -> Iterator[str]:
    """The address of a page that is being served."""
    command = [sys.executable, "-m", "miloco_edge", "demo", "--model", str(model), "--port", "0"]
    environment = os.environ | {
        "TMPDIR": str(uploads),
        "PATH": str(Path(sys.executable).parent),  # no ffmpeg, which Gradio would call
    }
    with subprocess.Popen(
        [*command, "--context", "4096", "--json"],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as page:
        assert page.stdout is not None
        yield json.loads(page.stdout.readline())["url"]
        page.send_signal(signal.SIGINT)
        assert page.wait(30) == 130
        assert not list(uploads.iterdir()), "uploads were left behind"


class Visitor:
    """What a person does on the page."""

    def __init__(self, chrome: Chrome) -> None:
        self.chrome = chrome

    def until(self, done: Callable[[], Any], what: str) -> Any:
        """Wait for something to be so."""
        wait = WebDriverWait(
            self.chrome, WAIT_S, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _: done(), what)

    def find(self, css: str) -> Any:
        return self.until(
            lambda: next(iter(self.chrome.find_elements(By.CSS_SELECTOR, css)), None), css
        )

    def text(self, css: str) -> str:
        return str(self.find(css).get_attribute("textContent"))

    def click(self, css: str) -> None:
        element = self.find(css)
        self.chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self.until(lambda: element.is_enabled(), f"{css} enabled")
        self.chrome.execute_script("arguments[0].click()", element)

    def choose(self, group: str, value: str) -> None:
        self.click(f"#{group} input[value='{value}']")

    def tab(self, name: str) -> None:
        tabs = self.until(
            lambda: self.chrome.find_elements(By.XPATH, f"//button[@role='tab'][.='{name}']"), name
        )
        self.chrome.execute_script("arguments[0].click()", tabs[0])

    def unfold(self, name: str) -> None:
        """Open a folded part of the page: what is in it is not there before."""
        handle = self.until(
            lambda: self.chrome.find_elements(By.XPATH, f"//button[contains(., '{name}')]"), name
        )
        self.chrome.execute_script("arguments[0].click()", handle[0])

    def write(self, css: str, text: str) -> None:
        box = self.find(f"{css} textarea")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)

    def number(self, css: str, value: float) -> None:
        box = self.find(f"{css} input[type=number]")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(str(value), Keys.TAB)

    def upload(self, css: str, path: Path) -> None:
        self.find(f"{css} input[type=file]").send_keys(str(path))

    def ask(self, question: str) -> str:
        """Ask, and wait for the whole answer; its evidence's heading."""
        before = len(self.cards())
        self.write("#question", question)
        self.click("#ask")
        self.until(lambda: len(self.cards()) > before and self.drawn("generate"), "an answer")
        return self.text("#evidence details[open] summary")

    def answer(self) -> str:
        """What was said last."""
        said = self.chrome.find_elements(By.CSS_SELECTOR, "#chat [data-testid=bot]")
        return str(said[-1].get_attribute("textContent")).strip()

    def cards(self) -> list[Any]:
        return self.chrome.find_elements(By.CSS_SELECTOR, "#evidence details")

    def drawn(self, stage: str) -> bool:
        """Whether the newest card has come so far."""
        names = {"generate": ("generating", "生成")}[stage]
        legend = self.chrome.find_elements(By.CSS_SELECTOR, "#evidence details[open] .legend")
        return bool(legend) and any(name in legend[0].text for name in names)

    def picture(self, name: str) -> None:
        """Keep a screenshot of the whole page, where it is wanted."""
        folder = os.environ.get("MILOCO_EDGE_SCREENSHOTS")
        shot = self.chrome.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"}
        )
        png = base64.b64decode(shot["data"])
        assert len(png) > 5000
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}.png").write_bytes(png)


def enter(chrome: Chrome, address: str) -> Visitor:
    """Open a page in English."""
    chrome.get(f"{address}?lang=en")
    visitor = Visitor(chrome)
    visitor.find("#ask")
    visitor.until(lambda: "Ask" in visitor.text("#ask"), "the page in English")
    return visitor
