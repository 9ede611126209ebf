"""A conversation: looks that are kept, stops that stop, visitors that make room."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from miloco_edge import Engine
from miloco_edge.engine.interrupt import Interrupt
from miloco_edge.errors import ContextFullError, MediaError
from miloco_edge.page.chat import messages
from miloco_edge.page.scenes import Scenes
from miloco_edge.page.view import Film, Manner, Media, View
from miloco_edge.page.visit import Exchange, Visit

SHORT = Manner(answer_tokens=6)


def whole(visit: Visit, view: View, question: str, manner: Manner = SHORT) -> Exchange:
    """The last of an exchange's steps."""
    return list(visit.ask(view, question, manner))[-1]


@pytest.fixture
def view(film: Path) -> View:
    return View(Media((film,)), frames=2, tokens_per_pair=64)


def test_an_exchange_grows_and_ends_whole(visit: Visit, view: View) -> None:
    steps = list(visit.ask(view, "What rolls?", SHORT))
    assert [step.stage for step in steps][:2] == ["looking", "answering"]
    assert steps[-1].stage == "done" and steps[-1].finish in ("stop", "length")
    texts = [step.text for step in steps if step.stage == "answering"]
    assert texts == sorted(texts, key=len), "the text only grows"
    assert steps[-1].answer is not None and steps[-1].answer.usage.visual_tokens <= 64
    assert visit.exchanges == (steps[-1],)


def test_the_second_question_reuses_the_look(visit: Visit, view: View) -> None:
    first, second = whole(visit, view, "What rolls?"), whole(visit, view, "And now?")
    assert first.seen is not None and not first.seen.reused
    assert second.seen is not None and second.seen.reused
    assert first.answer is not None and second.answer is not None
    assert second.answer.usage.cached_tokens > first.answer.usage.cached_tokens
    # The earlier exchange stands before the question.
    assert second.answer.usage.prompt_tokens > first.answer.usage.prompt_tokens + 10


def test_another_view_is_another_look(visit: Visit, view: View, film: Path) -> None:
    whole(visit, view, "What rolls?")
    wider = View(Media((film,)), frames=4, tokens_per_pair=64)
    assert (seen := whole(visit, wider, "What rolls?").seen) is not None and not seen.reused


def test_a_camera_is_looked_at_anew_each_time(film: Path) -> None:
    first, second = (Media(camera="porch", moment=moment) for moment in (1.0, 2.0))
    assert View(first) != View(second)


def test_stop_ends_a_long_answer(visit: Visit, view: View, never_ends: None) -> None:
    steps = visit.ask(view, "Tell a story.", Manner(answer_tokens=900))
    last = None
    for last in steps:
        if len(last.text) > 20:
            visit.stop()
    assert last is not None and last.finish == "cancelled"
    assert last.text and last.answer is not None
    assert last.answer.usage.completion_tokens < 900


def test_stop_reaches_what_waits_for_its_turn(visit: Visit, engine: Engine) -> None:
    others_turn_ends = threading.Event()
    engine._worker.submit(others_turn_ends.wait, Interrupt())
    try:
        steps = visit.ask(View(None), "Hello?", SHORT)
        assert next(steps).stage == "looking"
        threading.Timer(0.1, visit.stop).start()
        last = list(steps)[-1]
    finally:
        others_turn_ends.set()
    assert last.finish == "cancelled" and last.text == ""


def test_a_deadline_that_passed_gives_no_answer(visit: Visit, view: View) -> None:
    last = whole(visit, view, "What rolls?", Manner(deadline_s=1e-6))
    assert last.finish == "deadline" and last.text == ""
    # The cut look is not kept.
    assert (seen := whole(visit, view, "What rolls?").seen) is not None and not seen.reused


def test_what_cannot_be_read_is_said(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "not-a-clip.mp4"
    path.write_bytes(b"no clip")
    last = whole(visit, View(Media((path,))), "What?")
    assert isinstance(last.error, MediaError)
    assert str(last.error) in messages([last], "en")[-1]["content"]


def test_clearing_forgets_the_conversation(visit: Visit, view: View) -> None:
    whole(visit, view, "What rolls?")
    visit.clear()
    assert visit.exchanges == ()
    assert (seen := whole(visit, view, "Again?").seen) is not None and seen.reused


def test_an_idle_visitor_gives_way_when_cells_run_out(scenes: Scenes, film: Path) -> None:
    view = View(Media((film,)), frames=6, tokens_per_pair=256)
    names = ("ann", "bob", "cay", "dan", "eve")  # five times 432 visual tokens, room for 2048
    visits = [Visit(name, scenes) for name in names]
    for visit in visits:
        last = whole(visit, view, "What rolls?")
        assert last.error is None and last.seen is not None and not last.seen.reused
    assert scenes.find("ann", view) is None
    again = whole(visits[0], view, "And now?")
    assert again.error is None and again.seen is not None and not again.seen.reused


def test_a_visitor_in_use_never_gives_way(scenes: Scenes, film: Path) -> None:
    view = View(Media((film,)), frames=2, tokens_per_pair=64)
    whole(Visit("ann", scenes), view, "What rolls?")
    with scenes.in_use("ann"):
        assert not scenes.make_room_after(ContextFullError(9, 1))
    assert scenes.make_room_after(ContextFullError(9, 1))
    assert not scenes.make_room_after(ValueError("something else"))


def test_smart_home_answers_are_json_in_both_languages(visit: Visit, film: Path) -> None:
    for language in ("en", "zh"):
        view = View(Media((film,)), 2, 64, smart_home=True, language=language)
        steps = whole(visit, view, "Is the TV on?", Manner(answer_tokens=12))
        assert steps.text.startswith('{"result": "')


def test_a_film_is_one_even_video_with_its_own_times() -> None:
    film = Film(most=8)
    assert film.window(6) is None
    for number in range(7):
        film.push(np.full((28, 28, 3), number, np.uint8), 100 + number * 0.5)
    clip = film.window(6)
    assert clip is not None and clip.layout == "video" and clip.fps == pytest.approx(2.0)
    assert clip.times_s == (100.5, 101.0, 101.5, 102.0, 102.5, 103.0)
    film.push(np.zeros((56, 28, 3), np.uint8), 104.0)
    assert film.window(6) is None, "a camera that turned begins anew"


def test_visitors_take_turns(scenes: Scenes, never_ends: None) -> None:
    """Nobody answers twice while another waits."""
    ended: list[str] = []
    both = threading.Barrier(2)

    def ask_thrice(name: str) -> None:
        visit = Visit(name, scenes)
        both.wait(60)
        for question in ("One?", "Two?", "Three?"):
            last = whole(visit, View(None), question, Manner(answer_tokens=30))
            assert last.finish == "length"
            ended.append(name)

    threads = [threading.Thread(target=ask_thrice, args=(name,)) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == ["ann"] * 3 + ["bob"] * 3
    # From the moment the other has come until one has no more questions.
    came = next(i for i, name in enumerate(ended) if name != ended[0])
    done = max(i for i, name in enumerate(ended) if name != ended[-1])
    assert all(first != second for first, second in pairwise(ended[came - 1 : done + 1])), ended
