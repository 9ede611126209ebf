"""A second view of a window: what moves in it, cut out, for rules that want it larger."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import fields, replace

from miloco_edge.engine.closer import in_time, missed
from miloco_edge.engine.protocol import Pending, Seen, WindowEngine, refused
from miloco_edge.errors import ClosedError
from miloco_edge.hub.gate import Box
from miloco_edge.hub.rules import Rule
from miloco_edge.types import Budget, Decision, Usage, together
from miloco_edge.video import Clip, Frame

log = logging.getLogger(__name__)


def decide(
    engine: WindowEngine,
    clip: Clip,
    rules: Sequence[Rule],
    budget: Budget,
    box: Box | None,
    *,
    spare: bool = True,
) -> Pending[Seen]:
    """Decide rules on a window; those that zoom, on what moves as well, where a box says that.

    A rule is decided by the view that is surer of yes. The second view is begun when the first is
    through, if the hub has time to `spare` and there is enough for another one that takes as long;
    that there was none is told. One that fails leaves the first one's decision as it is.
    """
    began = time.monotonic()
    whole = engine.decide(clip, [rule.text for rule in rules], budget=budget)
    places = [i for i, rule in enumerate(rules) if rule.zoom]
    if box is None or not places:
        return whole

    def closer() -> Pending[Seen] | None:
        took, left = time.monotonic() - began, None
        if not spare:
            return None
        if budget.seconds is not None and (left := budget.seconds - took) < took:
            return None
        texts = [rules[i].text for i in places]
        return engine.decide(cut_out(clip, box), texts, budget=replace(budget, seconds=left))

    return _both(whole, closer, places, "deadline" if spare else "overload")


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


def _both(
    whole: Pending[Seen],
    closer: Callable[[], Pending[Seen] | None],
    places: Sequence[int],
    no_time: str,
) -> Pending[Seen]:
    future: Future[Seen] = Future()
    stopped = threading.Event()
    begun = [whole]

    def first(_: Future[Seen]) -> None:
        if whole.future.cancelled():
            future.set_exception(ClosedError("the request was cancelled"))
        elif (error := whole.future.exception()) is not None:
            future.set_exception(error)
        elif stopped.is_set():
            future.set_result(whole.future.result())
        elif (close := second()) is None:
            seen, told = whole.future.result(), missed(len(places), 0, no_time)
            future.set_result(replace(seen, degraded=together(seen.degraded, told)))
        else:
            begun.append(close)
            if stopped.is_set():
                close.cancel()
            close.future.add_done_callback(join)

    def second() -> Pending[Seen] | None:
        try:
            return closer()
        except Exception as error:  # an engine that was closed meanwhile, most of all
            return refused(error)

    def join(close: Future[Seen]) -> None:
        seen = whole.future.result()
        if close.cancelled():
            future.set_result(seen)
        elif (error := close.exception()) is not None:
            log.warning("no second view: %s", error)
            future.set_result(seen)
        else:
            future.set_result(_joined(seen, close.result(), places))

    def cancel() -> None:
        stopped.set()
        for each in list(begun):
            each.cancel()

    whole.future.add_done_callback(first)
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
    degraded = together(whole.degraded, missed(len(places), in_time(close)))
    return replace(
        whole,
        decisions=tuple(decisions),
        usage=Usage(**spent),
        timings=timings,
        degraded=degraded,
    )


def _yes(decision: Decision) -> float:
    """How sure of yes; what is not known is less than no."""
    if decision.answer == "unknown":
        return -1.0
    return float(decision.answer == "yes") if decision.p_yes is None else decision.p_yes
