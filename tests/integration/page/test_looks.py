"""What the page looks like: on a phone, by keyboard, in both themes."""

from __future__ import annotations

import pytest
from selenium.webdriver import Keys

from tests.integration.page.visitor import Visitor

pytestmark = pytest.mark.integration


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
