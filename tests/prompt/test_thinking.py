import pytest

from miloco_edge.prompt.thinking import ThinkParser, split_thinking


def run(text: str, *, think: bool, size: int) -> tuple[str | None, str, str, str]:
    """Feed `text` in bits of `size`: thinking, answer, and what was streamed of each."""
    parser = ThinkParser(think=think)
    pieces = [p for i in range(0, len(text), size) for p in parser.feed(text[i : i + size])]
    thinking, answer, last = parser.finish()
    pieces += last
    said = ["".join(p.text for p in pieces if p.thinking is kind) for kind in (True, False)]
    return thinking, answer, *said


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a b</think>\nYes", "a b", "Yes"),
        ("<think>\n\n</think>\n\nYes", None, "Yes"),
        ("a b\n</think>\n\nYes", "a b", "Yes"),
        ("<think>a < b </thin", "a < b </thin", ""),
        ("Yes", None, "Yes"),
        ("", None, ""),
    ],
)
def test_thinking_mode(text: str, thinking: str | None, answer: str, size: int) -> None:
    got_thinking, got_answer, said_thinking, said_answer = run(text, think=True, size=size)
    assert (got_thinking, got_answer) == (thinking, answer)
    if "think>" in text:
        assert said_answer.strip() == answer
        assert said_thinking.strip() == (thinking or "")


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes", "Yes"),
        ("<thing> is here", "<thing> is here"),
        ("<think>\n\n</think>\n\nYes", "Yes"),
        ("  <think></think>Yes", "Yes"),
        ("<", "<"),
    ],
)
def test_no_think_mode(text: str, answer: str, size: int) -> None:
    parser = ThinkParser(think=False)
    for i in range(0, len(text), size):
        parser.feed(text[i : i + size])
        assert not parser.unwanted
    assert run(text, think=False, size=size)[1:] == (answer, "", answer)


@pytest.mark.parametrize("size", [1, 100])
def test_a_thought_under_no_think_is_noticed_before_anything_is_said(size: int) -> None:
    parser = ThinkParser(think=False)
    text = "<think>Let me"
    said = [p for i in range(0, len(text), size) for p in parser.feed(text[i : i + size])]
    assert parser.unwanted
    assert said == []


@pytest.mark.parametrize("think", [False, True])
def test_who_wrote_the_tags_is_known(think: bool) -> None:
    own, helped, silent = (ThinkParser(think=think) for _ in range(3))
    for text in ("<th", "ink>", "\n\n", "</thi", "nk>", "Yes <think>"):
        own.feed(text)
    assert (own.opened_by, own.closed_by) == ("model", "model")
    helped.feed("<think>\n")
    assert (helped.opened_by, helped.closed_by) == ("model", None)
    helped.feed("\n</think>\n", by="engine")
    helped.feed("</think>")
    assert (helped.opened_by, helped.closed_by) == ("model", "engine")
    silent.feed("Yes")
    assert (silent.opened_by, silent.closed_by) == (None, None)


def test_repeated_tags() -> None:
    assert split_thinking("<think>a</think><think>b</think>Yes") == ("a\nb", "Yes")
