"""The page as a visitor has it: in Debian's Chromium, with the demo model behind it.

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
from contextlib import contextmanager
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
from miloco_edge.evaluate.metrics import span_iou
from models.demo.clips import CLIPS, FOLDER
from models.demo.scenes import plan
from quantize import quantize

pytestmark = pytest.mark.integration

DEMO = Path(__file__).parents[2] / "models" / "demo"
READING = CLIPS["reading"]
WAIT_S = 300
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--lang=en",
    "--force-device-scale-factor=1",
)  # fmt: skip


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


@pytest.fixture
def visitor(chromium: Chrome, address: str) -> Visitor:
    """A visitor who has just opened the page."""
    return enter(chromium, address)


def test_a_clip_is_asked_about_and_its_look_reused(visitor: Visitor, film: Path) -> None:
    what, when, _ = READING.questions
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    first = visitor.ask(what)
    assert visitor.answer() == "reading"
    assert "6 frames 224×168" in first and "144 visual tokens" in first
    assert "reused" not in first
    assert len(visitor.chrome.find_elements(By.CSS_SELECTOR, "#evidence details[open] img")) == 6
    assert visitor.text("#evidence figcaption") == "0.00 s"
    second = visitor.ask(when)
    assert "the look was reused" in second
    (event,) = plan(READING.seed).events
    times = [float(number) for number in re.findall(r"\d+\.\d+", visitor.answer())]
    assert len(times) == 2, visitor.answer()
    assert span_iou((times[0], times[1]), [event.start_s, event.end_s]) >= 0.5
    assert what in visitor.text("#chat")
    visitor.picture("ask")


def test_stop_stops_in_the_middle_of_a_look(chromium: Chrome, pair: Path, tmp_path: Path) -> None:
    """With the random model: the demo model has looked before anybody could stop it."""
    with served(pair, tmp_path) as address:
        visitor = enter(chromium, address)
        visitor.upload("#clip", DEMO / "ball.mp4")
        visitor.find("#clip video")
        visitor.number("#frames", 32)
        visitor.write("#question", "What rolls through the room?")
        visitor.click("#ask")
        visitor.until(lambda: "Looking" in visitor.text("#chat"), "a look under way")
        visitor.click("#stop")
        visitor.until(lambda: "[stopped]" in visitor.text("#chat"), "the end of it")
        visitor.choose("source", "nothing")
        assert "No picture" in visitor.ask("Are you there?"), "the page goes on"


def test_thinking_comes_word_by_word_and_is_shown_apart(visitor: Visitor, film: Path) -> None:
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    visitor.unfold("How to answer")
    visitor.click("#think input")
    visitor.chrome.execute_script(
        """
        const chat = document.querySelector('#chat');
        window.shown = [];
        new MutationObserver(() => window.shown.push(chat.textContent))
          .observe(chat, {subtree: true, childList: true, characterData: true});
        """
    )
    visitor.ask(READING.questions[0])
    assert visitor.answer() == "reading"
    shown = visitor.chrome.execute_script("return window.shown")
    begun = [text for text in shown if "seconds" in text and "book" not in text]
    assert begun, "the beginning of a thought before its end"
    thought = visitor.until(
        lambda: visitor.chrome.find_elements(
            By.XPATH, "//*[@id='chat']//*[@role='button' or self::button][contains(., 'Thinking')]"
        ),
        "a thought with a handle to fold it by",
    )
    assert thought[0].is_displayed()
    visitor.until(lambda: "book" not in visitor.text("#chat"), "the thought folded at its end")


def test_chinese_is_answered_in_chinese(visitor: Visitor, film: Path) -> None:
    visitor.choose("language", "zh")
    visitor.until(lambda: visitor.text("#ask").strip() == "提问", "the page in Chinese")
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    visitor.ask("画面里的人在做什么？")
    assert visitor.answer() == "看书"


@pytest.mark.parametrize(
    ("language", "label", "asked"),
    [
        ("en", "Ask", {"Is somebody reading?": "yes", "Is somebody watching TV?": "no"}),
        ("zh", "提问", {"有人在看书吗？": "是", "有人在看电视吗？": "否"}),
    ],
)
def test_smart_home_answers_are_json(
    visitor: Visitor, film: Path, language: str, label: str, asked: dict[str, str]
) -> None:
    visitor.choose("language", language)
    visitor.until(lambda: visitor.text("#ask").strip() == label, f"the page in {language}")
    assert visitor.chrome.execute_script("return document.documentElement.lang") == language
    visitor.upload("#clip", film)
    visitor.find("#clip video")
    visitor.unfold("回答方式" if language == "zh" else "How to answer")
    visitor.click("#smart-home input")
    for question, truth in asked.items():
        visitor.ask(question)
        assert json.loads(visitor.answer()) == {"result": truth}
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
    visitor.write("#rules", "\n".join(READING.rules))
    visitor.click("#watch")
    visitor.until(
        lambda: len(visitor.chrome.find_elements(By.CSS_SELECTOR, "#odds polyline")) == 3,
        "a line a rule",
    )
    rows = visitor.chrome.find_elements(By.CSS_SELECTOR, "#odds tbody tr")
    p_yes = {
        row.find_element(By.TAG_NAME, "th").text: float(row.find_element(By.TAG_NAME, "b").text)
        for row in rows
    }
    reading, television, reading_zh = READING.rules
    assert list(p_yes) == [reading, television, reading_zh]
    assert p_yes[reading] > 0.9 and p_yes[reading_zh] > 0.9 and p_yes[television] < 0.1
    visitor.picture("rules")
    visitor.number("#threshold", 0.9)
    visitor.until(
        lambda: visitor.find("#odds svg line").get_attribute("y1") == "8.0", "the threshold moved"
    )


def test_manifests_are_drawn_the_models_own_and_one_that_is_dropped(
    visitor: Visitor, tmp_path: Path
) -> None:
    visitor.tab("Quantized files")
    visitor.click("#own-manifest")
    visitor.find("#layers [aria-label=text] td")
    assert "Q8_0" in visitor.text("#layers") and "attn_q" in visitor.text("#layers")
    quantize(DEMO / "miloco-edge-demo", tmp_path, recipe="edge-x86")
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


def test_nothing_is_fetched_from_elsewhere(visitor: Visitor) -> None:
    """Whatever the tests before asked for is in the browser's log as well."""
    visitor.find("#ask")
    urls = [
        message["params"]["request"]["url"]
        for entry in visitor.chrome.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert urls
    here = ("http://127.0.0.1:", "data:", "blob:", "chrome")
    elsewhere = [url for url in urls if not url.startswith(here)]
    assert elsewhere == []
    refused = [e["message"] for e in visitor.chrome.get_log("browser") if "Refused" in e["message"]]
    assert refused == [], "the page asks for nothing that its policy forbids"
