"""A second view of a window: what moves in it, cut out, for rules that want it larger."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import fields, replace

from miloco_edge.engine.protocol import Pending, Seen, WindowEngine
from miloco_edge.errors import ClosedError
from miloco_edge.hub.gate import Box
from miloco_edge.hub.rules import Rule
from miloco_edge.types import Budget, Decision, Usage
from miloco_edge.video import Clip, Frame


def decide(
    engine: WindowEngine, clip: Clip, rules: Sequence[Rule], budget: Budget, box: Box | None
) -> Pending[Seen]:
    """Decide rules on a window; those that zoom, on what moves as well, where a box says that.

    A rule is decided by the view that is surer of yes. A second view that fails or comes too late
    leaves the first one's decision as it is.
    """
    whole = engine.decide(clip, [rule.text for rule in rules], budget=budget)
    places = [i for i, rule in enumerate(rules) if rule.zoom]
    if box is None or not places:
        return whole
    texts = [rules[i].text for i in places]
    return _both(whole, engine.decide(cut_out(clip, box), texts, budget=budget), places)


def cut_out(clip: Clip, box: Box) -> Clip:
    """What lies in the box of each frame, to whole pixels."""
    x0, y0, x1, y1 = box
    frames = []
    for frame in clip.frames:
        height, width = frame.pixels.shape[:2]
        rows = slice(int(y0 * height), max(int(y0 * height) + 1, round(y1 * height)))
        columns = slice(int(x0 * width), max(int(x0 * width) + 1, round(x1 * width)))
        frames.append(Frame(frame.pixels[rows, columns].copy(), frame.time_s))
    return replace(clip, frames=tuple(frames))


def _both(whole: Pending[Seen], close: Pending[Seen], places: Sequence[int]) -> Pending[Seen]:
    future: Future[Seen] = Future()

    def join(_: Future[Seen]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if whole.future.cancelled():
            future.set_exception(ClosedError("the request was cancelled"))
        elif (error := whole.future.exception()) is not None:
            future.set_exception(error)
        elif close.future.cancelled() or close.future.exception() is not None:
            future.set_result(whole.future.result())
        else:
            future.set_result(_joined(whole.future.result(), close.future.result(), places))

    # Nested, so that it runs once, after both.
    whole.future.add_done_callback(lambda _: close.future.add_done_callback(join))

    def cancel() -> None:
        whole.cancel()
        close.cancel()

    return Pending(future, cancel)


def _joined(whole: Seen, close: Seen, places: Sequence[int]) -> Seen:
    decisions = list(whole.decisions)
    for place, decision in zip(places, close.decisions, strict=True):
        decisions[place] = max(decisions[place], decision, key=_yes)
    spent = {
        f.name: getattr(whole.usage, f.name) + getattr(close.usage, f.name) for f in fields(Usage)
    }
    total_s = (whole.timings.total_s or 0.0) + (close.timings.total_s or 0.0)
    timings = replace(whole.timings, total_s=total_s)
    return replace(whole, decisions=tuple(decisions), usage=Usage(**spent), timings=timings)


def _yes(decision: Decision) -> float:
    """How sure of yes; what is not known is less than no."""
    if decision.answer == "unknown":
        return -1.0
    return float(decision.answer == "yes") if decision.p_yes is None else decision.p_yes
