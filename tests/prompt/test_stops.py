from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from miloco_edge.prompt.stops import StopStrings

LETTERS = st.text("ab\n", max_size=12)


@settings(max_examples=1000)
@given(LETTERS, st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3), st.data())
def test_however_it_comes_it_ends_at_the_first_stop(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    stopper = StopStrings(stops)
    shown, rest = "", text
    while rest and not stopper.found:
        n = data.draw(st.integers(1, len(rest)))
        shown, rest = shown + stopper.feed(rest[:n]), rest[n:]
    shown += stopper.finish()
    assert shown == stopper.cut(text)
    assert stopper.found == (shown != text)


def test_what_may_begin_a_stop_is_held_back() -> None:
    stopper = StopStrings(["END"])
    assert stopper.feed("the E") == "the "
    assert stopper.feed("N") == ""
    assert stopper.feed("T") == "ENT"
    assert stopper.feed("EN") == "" and stopper.finish() == "EN"


def test_nothing_comes_after_a_stop() -> None:
    stopper = StopStrings(["\n\n"])
    assert stopper.feed("a\n\nb") == "a"
    assert stopper.feed("c") == "" and stopper.finish() == ""


def test_the_stop_that_is_complete_first_ends_the_text() -> None:
    for pieces in (["aab\n"], ["a", "a", "b", "\n"]):
        stopper = StopStrings(["ab\n", "b"])
        assert "".join(map(stopper.feed, pieces)) + stopper.finish() == "aa"
