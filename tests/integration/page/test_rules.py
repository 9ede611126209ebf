"""Rules over a clip on the page, and a quantized pair's tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from models.demo.clips import CLIPS
from quantize import quantize
from tests.integration.page.visitor import Visitor

pytestmark = pytest.mark.integration

DEMO = Path(__file__).parents[3] / "models" / "demo"
READING = CLIPS["reading"]


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
