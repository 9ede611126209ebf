"""What the repository ships: the demo model answers about its clips, through the alias `demo`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from miloco_edge import Clip, Engine, Sampling, Scene
from miloco_edge.evaluate.metrics import span_iou
from models.demo.clips import CLIPS, FOLDER
from models.demo.scenes import plan, render
from models.demo.truths import holds
from models.demo.wordings import DOING, NAMES

DEMO = Path(__file__).parents[2] / "models" / "demo"
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def demo() -> Iterator[Engine]:
    with Engine.load("demo", threads=2) as engine:
        yield engine


@pytest.fixture(params=CLIPS)
def scene(demo: Engine, request: pytest.FixtureRequest) -> Iterator[tuple[str, Scene]]:
    with demo.look(Clip.from_file(FOLDER / f"{request.param}.mp4")) as scene:
        yield request.param, scene


def test_a_clip_is_what_was_drawn() -> None:
    for name, bundled in CLIPS.items():
        drawn = render(bundled.seed)
        clip = Clip.from_file(FOLDER / f"{name}.mp4")
        assert clip.times_s == pytest.approx(drawn.plan.times_s, abs=0.01)
        frames = np.stack([frame.pixels for frame in clip.frames])
        off = np.abs(frames.astype(float) - drawn.frames).mean()
        assert off < 6, f"{name}: {off:.1f} grey levels from the drawing"


def test_it_says_what_happens_and_when(scene: tuple[str, Scene]) -> None:
    name, looked = scene
    bundled = CLIPS[name]
    (event,) = plan(bundled.seed).events
    what, when = (looked.ask(question, sampling=GREEDY) for question in bundled.questions[:2])
    assert what.text in NAMES[event.category].values()
    (span,) = when.spans
    assert span_iou((span.start_s, span.end_s), [event.start_s, event.end_s]) >= 0.5


def test_it_points_at_it(scene: tuple[str, Scene]) -> None:
    name, looked = scene
    drawn = render(CLIPS[name].seed)
    truth = drawn.box(0, drawn.plan.events[0])
    assert truth is not None
    (box,) = looked.ask(CLIPS[name].questions[2], sampling=GREEDY).boxes
    x0, y0, x1, y1 = box.xyxy
    assert truth[0] <= (x0 + x1) / 2 <= truth[2] and truth[1] <= (y0 + y1) / 2 <= truth[3]


def test_rules_are_decided_rightly(scene: tuple[str, Scene]) -> None:
    name, looked = scene
    planned = plan(CLIPS[name].seed)
    rules = {category: f"Someone is {words['en'][0]}" for category, words in DOING.items()}
    decided = looked.decide(list(rules.values()))
    for category, decision in zip(rules, decided, strict=True):
        expected = "yes" if holds(planned, category) else "no"
        assert decision.answer == expected, decision


def test_it_thinks_when_asked_to(scene: tuple[str, Scene]) -> None:
    _, looked = scene
    answer = looked.ask("What is the person doing?", think=True, sampling=GREEDY)
    assert answer.thinking and answer.thinking_closed_by == "model"
    assert looked.ask("What is the person doing?", sampling=GREEDY).thinking is None


def test_what_ships_belongs_together() -> None:
    weights = DEMO / "miloco-edge-demo" / "model.safetensors"
    assert weights.stat().st_size <= 25e6
    (manifest,) = (DEMO / "pair").glob("*.manifest.json")
    assert (DEMO / "log" / "log.jsonl").stat().st_size
    source = json.loads(manifest.read_text())["source"]
    assert source["files"][weights.name] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not Path(source["path"]).is_absolute()
