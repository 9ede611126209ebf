"""A home for tests: an engine that answers by the brightness of pictures, and pushed frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from miloco_edge.engine.protocol import EngineState, Pending, Seen
from miloco_edge.errors import EngineDownError
from miloco_edge.hub.event import Event
from miloco_edge.hub.gate import GateSettings
from miloco_edge.hub.rules import Rule
from miloco_edge.hub.settings import CameraSettings, EngineSettings, Home, JournalSettings
from miloco_edge.types import Answer, Budget, Decision, Timings, Usage
from miloco_edge.video import Clip
from miloco_edge.video.address import Address
from miloco_edge.video.played import Pushed

RULE = Rule("lit", "The room is bright", cameras=("hall",))


class FakeEngine:
    """Yes if the last frame is bright. `seconds` is what a window takes; `fault` what it raises."""

    def __init__(self, seconds: float = 0.0, slots: int = 1) -> None:
        self.name, self.slots, self.seconds = "fake", slots, seconds
        self.state: EngineState = "ready"
        self.fault: Exception | None = None
        self.shown: list[tuple[Clip, list[str], Budget]] = []
        self.asked: list[str] = []
        self.unloads = 0

    def load(self) -> None:
        self.state = "ready"

    def unload(self) -> None:
        self.unloads += 1
        self.state = "unloaded"

    def close(self) -> None:
        self.state = "closed"

    def decide(
        self,
        clip: Clip,
        rules: Sequence[str],
        *,
        budget: Budget | None = None,
    ) -> Pending[Seen]:
        self.shown.append((clip, list(rules), budget or Budget()))
        p_yes = float(clip.frames[-1].pixels.mean()) / 255
        decisions = [
            Decision(rule, "yes" if p_yes > 0.5 else "no", p_yes, 0.0, "logits") for rule in rules
        ]
        seen = Seen(tuple(decisions), Usage(prompt_tokens=100), Timings())
        return self._later(lambda: seen)

    def ask(self, clip: Clip | None, question: str, **_: Any) -> Pending[Answer]:
        self.asked.append(question)
        text = "nothing" if clip is None else f"{len(clip.frames)} frames"
        answer = Answer(question, text, None, "stop", Usage(prompt_tokens=10), Timings())
        return self._later(lambda: answer)

    def _later(self, give: Callable[[], Any]) -> Pending[Any]:
        future: Future[Any] = Future()
        stop = threading.Event()

        def run() -> None:
            stop.wait(self.seconds)
            if self.fault is not None:
                future.set_exception(self.fault)
            else:
                future.set_result(give())

        if self.seconds:
            threading.Thread(target=run, daemon=True).start()
        else:
            run()
        return Pending(future, stop.set)


DOWN = EngineDownError("it was killed")


def home(folder: Path, *rules: Rule, cameras: Sequence[str] = ("hall",), **changes: Any) -> Home:
    """A home whose cameras look every 0.1 s at the last 0.2 s."""
    settings = {
        name: CameraSettings(
            name, Address("usb", "0"), interval_s=0.1, seconds=0.2, fps=20, timeout_s=0.5
        )
        for name in cameras
    }
    made = Home(
        folder / "home.toml",
        cameras=settings,
        rules={rule.id: rule for rule in rules or (RULE,)},
        journal=JournalSettings(folder / "journal.sqlite"),
        engine=EngineSettings(),
        gate=GateSettings(busy_s=0.1),
    )
    return replace(made, **changes)


class Camera(Pushed):
    """Pushes a noisy picture of some brightness, 25 times a second, until it is stopped."""

    def __init__(self, name: str = "hall", level: int = 40, every_s: float = 0.04) -> None:
        super().__init__(name)
        object.__setattr__(self, "level", level)
        object.__setattr__(self, "every_s", every_s)
        object.__setattr__(self, "stopped", threading.Event())

    def show(self, level: int) -> None:
        object.__setattr__(self, "level", level)

    def __enter__(self) -> Camera:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()  # type: ignore[attr-defined]

    def _run(self) -> None:
        random = np.random.default_rng(3)
        y, x = np.mgrid[0:48, 0:64]
        pattern = ((x // 8 + y // 8) % 2 * 40)[..., None]
        while not self.stopped.wait(self.every_s):  # type: ignore[attr-defined]
            noise = random.integers(-3, 4, (48, 64, 3))
            level = self.level  # type: ignore[attr-defined]
            self.push(np.clip(level + pattern - 20 + noise, 0, 255).astype(np.uint8))


def until(true: Callable[[], Any], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def states(events: Sequence[Event]) -> list[str]:
    return [event.state for event in events]
