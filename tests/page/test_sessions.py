"""Who is on the page, and what they gave it to look at."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miloco_edge.errors import MediaError
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.sessions import Given, Session, Sessions, Source
from miloco_edge.page.view import Film, Manner, Media, View

NOTHING = Given("nothing", None, (), None, "en")


@pytest.fixture
def session(scenes: Scenes) -> Session:
    return Sessions(scenes).of("ann")


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, ...]:
    paths = tuple(tmp_path / f"{number}.png" for number in range(3))
    for path in paths:
        Image.new("RGB", (112, 84), "teal").save(path)
    return paths


def test_each_source_gives_what_it_holds(film: Path, pictures: tuple[Path, ...]) -> None:
    webcam = Film()
    for number in range(4):
        webcam.push(np.full((28, 28, 3), number, np.uint8), float(number))
    given = Given("clip", str(film), tuple(map(str, pictures)), "0", "en")
    assert given.media(webcam, 6) == Media((film,))
    assert replace(given, source="pictures").media(webcam, 6) == Media(pictures, pictures=True)
    camera = replace(given, source="camera").media(webcam, 6)
    assert camera is not None and camera.camera == "0" and camera.moment is not None
    live = replace(given, source="live").media(webcam, 2)
    assert live is not None and live.window is not None and live.window.times_s == (2.0, 3.0)
    assert replace(given, source="nothing").media(webcam, 6) is None


@pytest.mark.parametrize("source", ["clip", "pictures", "camera", "live"])
def test_a_source_that_holds_nothing_is_said(source: Source) -> None:
    with pytest.raises(MediaError, match="请先提供画面"):
        replace(NOTHING, source=source, language="zh").media(Film(), 6)


def test_rules_want_something_to_look_at(session: Session) -> None:
    with pytest.raises(MediaError, match="look at first"):
        NOTHING.windows(session, 3.0)


def test_pictures_are_read_up_to_the_frames_wanted(pictures: tuple[Path, ...]) -> None:
    view = View(Media(pictures, pictures=True), frames=2, tokens_per_pair=100)
    clip = view.read()
    assert clip is not None and clip.layout == "images" and len(clip.frames) == 2
    assert view.visual_tokens == 200
    assert replace(view, frames=32).visual_tokens == 300, "no more than there are"


def test_a_named_camera_is_looked_at_until_it_is_stopped(session: Session, film: Path) -> None:
    given = replace(NOTHING, source="camera", camera=str(film))
    clips = list(islice(given.windows(session, 1.0), 2))
    assert [len(clip.frames) for clip in clips] == [2, 2] and given.moving
    session.watch.stop()
    assert list(given.windows(session, 1.0)) == []


def test_a_clip_becomes_windows(session: Session, film: Path) -> None:
    clips = list(replace(NOTHING, source="clip", clip=str(film)).windows(session, 3.0))
    assert {len(clip.frames) for clip in clips} == {6}


def test_a_new_watch_stops_the_one_before(scenes: Scenes) -> None:
    sessions = Sessions(scenes)
    first, second = sessions.watch("ann"), sessions.watch("ann")
    assert first.stopped.is_set() and not second.stopped.is_set()
    assert sessions.of("ann").watch is second


def test_who_leaves_is_forgotten_with_all_that_was_kept(scenes: Scenes) -> None:
    sessions = Sessions(scenes)
    session, view = sessions.of("ann"), View(None)
    assert sessions.of("ann") is session is not sessions.of("bob")
    list(session.visit.ask(view, "Hello?", Manner(answer_tokens=2)))
    assert scenes.find("ann", view) is not None
    sessions.leave("ann")
    assert scenes.find("ann", view) is None and session.watch.stopped.is_set()
    assert sessions.of("ann") is not session
    sessions.close()


def test_sessions_are_made_once_whoever_asks_first(scenes: Scenes) -> None:
    sessions, found = Sessions(scenes), []
    threads = [threading.Thread(target=lambda: found.append(sessions.of("ann"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(session) for session in found}) == 1
