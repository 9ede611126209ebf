"""Questions on the page: about a clip, pictures, the webcam or nothing at all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from miloco_edge.evaluate.metrics import span_iou
from models.demo.clips import CLIPS
from models.demo.scenes import plan
from tests.integration.page.visitor import Visitor, enter, served

pytestmark = pytest.mark.integration

DEMO = Path(__file__).parents[3] / "models" / "demo"
READING = CLIPS["reading"]


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
