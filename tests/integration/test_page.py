"""The page as a visitor has it: in Debian's Chromium, with a tiny model behind it.

Its screenshots are those of docs/page.md: MILOCO_EDGE_SCREENSHOTS=docs/pictures writes them there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from PIL import Image
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from miloco_edge import Clip
from quantize import quantize

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
FILM = ROOT / "models" / "demo" / "ball.mp4"
WAIT_S = 300
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--lang=en",
    "--force-device-scale-factor=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def address(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page that is being served."""
    command = [sys.executable, "-m", "miloco_edge", "demo", "--model", str(pair), "--port", "0"]
    environment = os.environ | {
        "TMPDIR": str(tmp_path_factory.mktemp("uploads")),
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
        assert not list(Path(environment["TMPDIR"]).iterdir()), "uploads were left behind"


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
    """The rolling ball as a clip that Chromium plays as well."""
    path = tmp_path_factory.mktemp("film") / "ball.webm"
    clip = Clip.from_file(FILM, fps=12)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 12, clip.frames[0].size)
    for frame in clip.frames:
        writer.write(frame.pixels[:, :, ::-1])
    writer.release()
    return path


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


@pytest.fixture
def visitor(chromium: Chrome, address: str) -> Visitor:
    """A visitor who has just opened the page."""
    chromium.get(f"{address}?lang=en")
    visitor = Visitor(chromium)
    visitor.find("#ask")
    visitor.until(lambda: "Ask" in visitor.text("#ask"), "the page in English")
    return visitor


def test_a_clip_is_asked_about_and_its_look_reused(visitor: Visitor, film: Path) -> None:
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    first = visitor.ask("What rolls through the room?")
    assert "6 frames 448×252" in first and "432 visual tokens" in first
    assert "reused" not in first
    assert len(visitor.chrome.find_elements(By.CSS_SELECTOR, "#evidence details[open] img")) == 6
    assert visitor.text("#evidence figcaption") == "0.00 s"
    second = visitor.ask("And where is it now?")
    assert "the look was reused" in second
    assert "What rolls through the room?" in visitor.text("#chat")
    visitor.picture("ask")


def test_stop_stops_in_the_middle_of_a_look(visitor: Visitor, film: Path) -> None:
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    visitor.number("#frames", 32)
    visitor.write("#question", "What rolls through the room?")
    visitor.click("#ask")
    visitor.until(lambda: "Looking" in visitor.text("#chat"), "a look under way")
    visitor.click("#stop")
    visitor.until(lambda: "[stopped]" in visitor.text("#chat"), "the end of it")
    visitor.choose("source", "nothing")
    assert "No picture" in visitor.ask("Are you there?"), "the page goes on"


def test_thinking_is_shown_apart(visitor: Visitor) -> None:
    visitor.choose("source", "nothing")
    visitor.unfold("How to answer")
    visitor.click("#think input")
    visitor.number("#think-tokens", 16)
    # A random model may end its turn before it has thought at all.
    for question in ("Why?", "How?", "When?", "Where?", "Who?", "What?", "Whose?", "Which?"):
        visitor.ask(question)
        if "Thinking" in visitor.text("#chat"):
            break
    thought = visitor.until(
        lambda: visitor.chrome.find_elements(
            By.XPATH, "//*[@id='chat']//*[@role='button' or self::button][contains(., 'Thinking')]"
        ),
        "a thought with a handle to fold it by",
    )
    assert thought[0].is_displayed()


@pytest.mark.parametrize(("language", "label"), [("en", "Ask"), ("zh", "提问")])
def test_smart_home_answers_are_json(
    visitor: Visitor, film: Path, language: str, label: str
) -> None:
    visitor.choose("language", language)
    visitor.until(lambda: visitor.text("#ask").strip() == label, f"the page in {language}")
    assert visitor.chrome.execute_script("return document.documentElement.lang") == language
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    visitor.unfold("回答方式" if language == "zh" else "How to answer")
    visitor.click("#smart-home input")
    visitor.ask("有人在看电视吗？" if language == "zh" else "Is anybody watching TV?")
    assert '{"result": "' in visitor.text("#chat")
    if language == "zh":
        visitor.picture("ask-zh")


def test_the_webcam_is_one_video_for_questions_and_windows_for_rules(visitor: Visitor) -> None:
    visitor.choose("source", "live")
    visitor.click("#live [title='grant webcam access'] button")
    visitor.click("#live button[aria-label='capture photo']")
    visitor.number("#frames", 2)

    def asked() -> bool:  # at first there is no frame yet, which the page says
        visitor.write("#question", "What is shown?")
        visitor.click("#ask")
        return bool(visitor.cards())

    visitor.until(asked, "frames of the webcam")
    visitor.until(lambda: visitor.drawn("generate"), "an answer")
    # Two frames are one temporal patch of a video; as pictures they would cost twice as much.
    heading = visitor.text("#evidence details[open] summary")
    found = re.search(r"2 frames (\d+)×(\d+), (\d+) visual tokens", heading)
    assert found is not None, heading
    width, height, tokens = map(int, found.groups())
    assert tokens == width * height // (28 * 28)

    visitor.tab("Rules")
    visitor.write("#rules", "A circle turns")
    visitor.click("#watch")
    visitor.until(
        lambda: visitor.chrome.find_elements(By.CSS_SELECTOR, "#odds polyline"), "windows of it"
    )
    visitor.click("#stop-watch")
    visitor.click("#live button[aria-label='capture photo']")


def test_pictures_are_separate_and_each_has_its_size(visitor: Visitor, tmp_path: Path) -> None:
    paths = [tmp_path / "door.png", tmp_path / "tall.jpg"]
    for path, size in zip(paths, ((320, 240), (140, 280)), strict=True):
        Image.new("RGB", size, "teal").save(path)
    visitor.choose("source", "pictures")
    visitor.upload("#pictures", Path("\n".join(map(str, paths))))
    visitor.until(lambda: "tall" in visitor.text("#pictures"), "both pictures")
    heading = visitor.ask("What differs?")
    assert "2 frames" in heading
    sizes = visitor.chrome.execute_script(
        "return [...document.querySelectorAll('#evidence details[open] img')]"
        ".map(e => e.naturalWidth > e.naturalHeight)"
    )
    assert sizes == [True, False]


def test_rules_move_over_a_clip(visitor: Visitor, film: Path) -> None:
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    visitor.tab("Rules")
    visitor.write("#rules", "A ball rolls through the room\nSomeone is reading")
    visitor.click("#watch")
    visitor.until(
        lambda: len(visitor.chrome.find_elements(By.CSS_SELECTOR, "#odds polyline")) == 2,
        "a line a rule",
    )
    rows = visitor.chrome.find_elements(By.CSS_SELECTOR, "#odds tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == [
        "A ball rolls through the room",
        "Someone is reading",
    ]
    for row in rows:
        assert 0 <= float(row.find_element(By.TAG_NAME, "b").text) <= 1
    visitor.picture("rules")
    visitor.number("#threshold", 0.9)
    visitor.until(
        lambda: visitor.find("#odds svg line").get_attribute("y1") == "8.0", "the threshold moved"
    )


def test_manifests_are_drawn_the_models_own_and_one_that_is_dropped(
    visitor: Visitor, checkpoint: Path, tmp_path: Path
) -> None:
    visitor.tab("Quantized files")
    visitor.click("#own-manifest")
    visitor.find("#layers [aria-label=text] td")
    assert "BF16" in visitor.text("#layers") and "attn_q" in visitor.text("#layers")
    quantize(checkpoint, tmp_path, recipe="edge-x86")
    visitor.upload("#manifest", next(tmp_path.glob("*.manifest.json")))
    visitor.until(lambda: "edge-x86" in visitor.text("#layers h3"), "the dropped one")
    assert "Q6_K" in visitor.text("#layers")
    visitor.picture("quantize")


def test_a_phone_shows_all_of_it(visitor: Visitor) -> None:
    visitor.chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        visitor.find("#question")
        width = visitor.chrome.execute_script("return document.documentElement.scrollWidth")
        assert width <= 390, "nothing is wider than the screen"
        title, switch = visitor.find("h1").rect, visitor.find("#language").rect
        assert title["y"] + title["height"] <= switch["y"], "nothing lies on anything else"
        visitor.picture("phone")
    finally:
        visitor.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_is_enough_and_everything_has_a_name(visitor: Visitor) -> None:
    nameless = visitor.chrome.execute_script(
        """
        return [...document.querySelectorAll('button, textarea, input:not([type=hidden])')]
          .filter(e => e.offsetParent !== null)
          .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.title
                         || e.labels?.length || e.getAttribute('aria-labelledby')
                         || e.placeholder || e.type === 'file'))
          .map(e => e.outerHTML.slice(0, 120))
        """
    )
    assert nameless == []
    visitor.choose("source", "nothing")
    visitor.write("#question", "Hello?")
    reached = []
    for _ in range(6):
        visitor.chrome.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(visitor.chrome.switch_to.active_element.text)
    assert "Ask" in reached and "Stop" in reached


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_their_background(visitor: Visitor, address: str, theme: str) -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3), for all words that are shown."""
    visitor.chrome.get(f"{address}?lang=en&__theme={theme}")
    visitor.find("#ask")
    visitor.unfold("How to answer")
    visitor.find("#think")
    pale = visitor.chrome.execute_script(
        """
        const parts = c => c.match(/[\\d.]+/g).map(Number);
        const light = c => parts(c).slice(0, 3).map(v => v / 255)
          .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = e => {
          for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor, p = parts(c);
            if (p.length < 4 || p[3] > 0.9) return c;
          }
          return 'rgb(255, 255, 255)';
        };
        return [...document.querySelectorAll('body *')]
          .filter(e => e.offsetParent !== null && [...e.childNodes]
            .some(n => n.nodeType === 3 && n.textContent.trim()))
          .map(e => {
            const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim()];
          })
          .filter(([ratio, text]) => ratio < 4.5)
        """
    )
    assert pale == []


def test_nothing_is_fetched_from_elsewhere(visitor: Visitor, address: str) -> None:
    """Whatever the tests before asked for is in the browser's log as well."""
    visitor.find("#ask")
    urls = [
        message["params"]["request"]["url"]
        for entry in visitor.chrome.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert urls
    elsewhere = [u for u in urls if not u.startswith((address, "data:", "blob:", "chrome"))]
    assert elsewhere == []
    refused = [e["message"] for e in visitor.chrome.get_log("browser") if "Refused" in e["message"]]
    assert refused == [], "the page asks for nothing that its policy forbids"
