"""Answers and decisions on the terminal."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import Unpack

from miloco_edge import Scene
from miloco_edge.cli.output import Output
from miloco_edge.engine.answer import AskOptions
from miloco_edge.prompt import Piece
from miloco_edge.types import Answer, Decision


def print_answers(
    scene: Scene, questions: Sequence[str], output: Output, **options: Unpack[AskOptions]
) -> list[Answer]:
    """Ask all questions side by side and print what is said as it comes, thinking dimmed and aside.

    The words of the second answer wait for the end of the first.
    """
    pieces: queue.SimpleQueue[tuple[int, Piece | Answer] | None] = queue.SimpleQueue()
    request = scene.start_ask_many(
        questions, emit=lambda i, piece: pieces.put((i, piece)), **options
    )
    request.future.add_done_callback(lambda _: pieces.put(None))
    waiting: dict[int, list[Piece | Answer]] = {i: [] for i in range(len(questions))}
    shown = _Shown(output, questions)
    try:
        while (item := pieces.get()) is not None:
            waiting[item[0]].append(item[1])
            while waiting.get(shown.number):
                shown.take(waiting[shown.number].pop(0))
        return request.result()
    finally:
        request.interrupt.cancel()


class _Shown:
    """The answer that is being printed."""

    def __init__(self, output: Output, questions: Sequence[str]) -> None:
        self.number = 0
        self._output, self._questions = output, questions
        self._begun = self._printed = False

    def take(self, piece: Piece | Answer) -> None:
        """Print the next of it; the whole answer is its end."""
        if self._output.as_json:
            self.number += isinstance(piece, Answer)
            return
        if not self._begun and len(self._questions) > 1:
            self._output.note(self._questions[self.number])
        self._begun = True
        if isinstance(piece, Answer):
            # What was taken for thinking may turn out to be the answer.
            self._output.text("" if self._printed else piece.text)
            if piece.finish_reason != "stop":
                self._output.note(f"note: the answer ends here by {piece.finish_reason}")
            self.number += 1
            self._begun = self._printed = False
        elif piece.thinking:
            self._output.note(piece.text, newline=False, dim=True)
        else:
            self._output.text(piece.text, newline=False)
            self._printed = True


def print_decisions(decisions: Sequence[Decision], output: Output) -> None:
    """One line a rule: its answer, p_yes, and why it is unknown where it is."""
    output.table(
        ("rule", "answer", "p_yes", ""),
        (
            (d.rule, d.answer, "-" if d.p_yes is None else f"{d.p_yes:.2f}", d.reason or "")
            for d in decisions
        ),
    )
