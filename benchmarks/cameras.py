"""Four cameras with 24 rules for half an hour: what is found, how late, and what grows.

    python -m benchmarks.cameras MODEL --out benchmarks/results/cameras-demo.json

Each camera plays a script of drawn scenes in real time, one of them over real RTSP: an empty room,
then somebody in it, then the next room, half a minute each. The rooms are those that the model
reads rightly when it is asked alone (`left_out` counts the others): what is lost is the hub's
doing. What begins is known to the frame, and must be told once (`benchmarks/home/tally.py` says how
it is counted). Latency is from the capture of a window's last frame to its decision, and to its
event. Memory, threads and file descriptors of the hub's process and the engine's are read every ten
seconds; `growth` fits a line to the second half of them. Before that the engine's cache of
pictures, which is bounded, is filled with noise.

Then two cameras show the same room in which nothing happens, one with the gate and one without it,
and no heartbeat: `still` compares what they cost, the gate's own CPU seconds with them.

Takes --minutes, --still-minutes and about eight more for drawing and filling. Ctrl-C ends a part
early; what was measured until then is written. RTSP needs GStreamer's server (Debian: python3-gi
gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
gstreamer1.0-plugins-ugly); --no-rtsp does without.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks import proc
from benchmarks.home import films
from benchmarks.home.rtsp import served
from benchmarks.home.tally import percentiles, score, slope
from benchmarks.host import describe_host
from miloco_edge import Clip
from miloco_edge.engine.child import ChildEngine
from miloco_edge.engine.protocol import Pending, Seen, WindowEngine
from miloco_edge.hub import config
from miloco_edge.hub.connect import engine_for
from miloco_edge.hub.event import Event
from miloco_edge.hub.gate import GateMemory, GateSettings, examined, gate
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from miloco_edge.hub.settings import CameraSettings

CAMERAS = ("hall", "den", "study", "lounge")
RULES = {
    "watch_tv": "Someone is watching TV",
    "reading": "Someone is reading",
    "phone": "Someone is playing on the phone",
    "esports": "Someone is playing esports",
    "workout": "Someone is working out",
    "person": "There is a person in the room",
}
WINDOW_FPS = int(CameraSettings.fps)
WINDOW_FRAMES = int(CameraSettings.seconds * CameraSettings.fps)
"""Of a camera's window, as the hub cuts it by default."""
WINDOWS_TRIED = 8
"""Of each room, before it is filmed."""
NOISE, MOST_NOISE = 50, 4000
"""Clips between two looks at the memory, and in all, of what fills the engine's cache."""
AGREE, OF = 2, 3
SAMPLE_S = 10.0


@dataclass
class Spent:
    """What a camera had of the engine."""

    windows: int = 0
    prompt_tokens: int = 0
    engine_s: float = 0.0


class Metered:
    """An engine, and what each camera has of it."""

    def __init__(self, engine: WindowEngine) -> None:
        self.engine = engine
        self.spent: defaultdict[str, Spent] = defaultdict(Spent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def decide(self, clip: Clip, rules: Sequence[str], **options: Any) -> Pending[Seen]:
        """As WindowEngine.decide."""
        pending = self.engine.decide(clip, rules, **options)

        def note(future: Future[Seen]) -> None:
            if not future.cancelled() and future.exception() is None:
                seen, spent = future.result(), self.spent[clip.source or ""]
                spent.windows += 1
                spent.prompt_tokens += seen.usage.prompt_tokens - seen.usage.cached_tokens
                spent.engine_s += seen.timings.total_s or 0.0

        pending.future.add_done_callback(note)
        return pending


@dataclass
class Watched:
    """What came of watching."""

    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)
    began: dict[str, float] = field(default_factory=dict)
    """When each camera showed its first frame, since 1970."""
    samples: list[dict[str, float]] = field(default_factory=list)
    spent: Mapping[str, Spent] = field(default_factory=dict)
    engine_cpu_s: float = 0.0
    """Of all cores."""
    gate: dict[str, dict[str, int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def fill(engine: ChildEngine) -> int:
    """Show it noise until its cache of pictures is full, so that what still grows is a leak.

    As large as the films: larger pictures would give way to more of theirs than there were.
    """
    random, clips, held = np.random.default_rng(0), 0, 0
    width, height = films.SIZE
    while engine.pid is not None and clips < MOST_NOISE:
        before = held
        for _ in range(NOISE):
            pixels = random.integers(0, 256, (WINDOW_FRAMES, height, width, 3), np.uint8)
            clip = Clip.from_frames(list(pixels), fps=WINDOW_FPS)
            engine.decide(clip, ["Someone is there"]).future.result()
        clips += NOISE
        held = proc.held(engine.pid)["resident_bytes"]
        if held - before < NOISE << 10:
            break
    return clips


def watch(path: Path, seconds: float, *, full: bool = False) -> Watched:
    """Watch a home for some seconds, or until Ctrl-C; `full`: with an engine whose cache is."""
    home = config.read(path)
    engine = engine_for(home)
    assert isinstance(engine, ChildEngine)
    engine.load()
    if full:
        print(f"{fill(engine)} clips of noise fill the engine's cache", flush=True)
    metered = Metered(engine)
    hub = Hub(home, cast(WindowEngine, metered))
    found = Watched(spent=metered.spent)
    assert engine.pid is not None
    start, cpu_s = time.monotonic(), proc.cpu_s(engine.pid)
    with hub:
        hub.on_event(found.events.append)
        try:
            while found.seconds < seconds:
                for name, feed in hub._cameras.feeds.items():
                    if name not in found.began and (frames := feed.frames()):
                        found.began[name] = frames[0].time_s + hub.clock.epoch_s
                if found.seconds >= SAMPLE_S * len(found.samples) and engine.pid is not None:
                    found.samples.append({"s": found.seconds, **_held(engine.pid)})
                time.sleep(0.05)
                found.seconds = time.monotonic() - start
        except KeyboardInterrupt:
            print(f"ended after {found.seconds:.0f} s")
        if engine.pid is not None:
            found.engine_cpu_s = proc.cpu_s(engine.pid) - cpu_s
        found.gate = {each.camera: dict(each.gate.counts) for each in hub._cameras}
        found.facts = {
            "model": engine.name,
            "overload_step": hub._overload.step,
            "restarts": engine.restarts,
        }
    return found


def _held(engine_pid: int) -> dict[str, int]:
    """Memory, threads and descriptors of the hub's process and of its engine's."""
    held = {"hub": proc.held(), "engine": proc.held(engine_pid)}
    return {f"{name}_{what}": n for name, parts in held.items() for what, n in parts.items()}


def scripted(
    model: str, seconds: float, folder: Path, names: Sequence[str], *, rtsp: bool
) -> dict[str, Any]:
    """The cameras with their scripts; the last over RTSP."""
    paths = {name: folder / f"{name}.avi" for name in names}
    # Longer than what is watched: a film that ends is a camera that goes away.
    with closing(ChildEngine(model)) as engine:
        reads = partial(read_rightly, engine)
        drawn = {
            name: films.script(i + 1, seconds + 60, path, reads)
            for i, (name, path) in enumerate(paths.items())
        }
    scripts = {name: blocks for name, (blocks, _) in drawn.items()}
    sources = {name: str(path) for name, path in paths.items()}
    with ExitStack() as stack:
        if rtsp:
            sources[names[-1]], shown = stack.enter_context(served(paths[names[-1]]))
        path = write_home(folder, model, {name: {"source": s} for name, s in sources.items()})
        found = watch(path, seconds, full=True)
        if rtsp:
            # The first frames of a stream come in a burst, and are stamped late.
            found.began[names[-1]] = shown()
    decisions = list(query(config.read(path).journal.path, "decisions"))
    looks: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
    for each in decisions:
        moment = datetime.fromisoformat(each["time"]).timestamp()
        looks[each["camera"]].append((each["rule"], moment))
    return {
        **found.facts,
        "seconds": found.seconds,
        "rules": len(RULES) * len(names),
        "over_rtsp": names[-1] if rtsp else None,
        "left_out": sum(left_out for _, left_out in drawn.values()),
        "scores": {
            name: score(
                [event for event in found.events if event.camera == name],
                looks[name],
                scripts[name],
                found.began[name],
                found.seconds,
                agree=AGREE,
            )
            for name in names
        },
        "told": [
            (event.camera, event.rule.id, event.state, event.time - found.began[event.camera])
            for event in found.events
        ],
        "events": Counter(f"{event.state}:{event.reason}" for event in found.events),
        "latency_s": {
            "decisions": percentiles([e["latency_s"] for e in decisions if e["latency_s"]]),
            "events": percentiles([e.latency_s or 0.0 for e in found.events if e.evidence]),
        },
        "gate": found.gate,
        "spent": {name: vars(spent) for name, spent in found.spent.items()},
        "growth": {name: slope(found.samples, name) for name in found.samples[0] if name != "s"},
        "samples": found.samples,
    }


def read_rightly(engine: WindowEngine, film: films.Film, category: str | None) -> bool:
    """Whether the model says of each of some windows what is to be seen, and nothing else."""
    true = {category, "person"} if category else set()
    step = films.FPS // WINDOW_FPS
    for first in range(0, len(film) - WINDOW_FRAMES * step, len(film) // WINDOWS_TRIED):
        frames = film[first::step][:WINDOW_FRAMES]
        clip = Clip.from_frames(list(frames), fps=WINDOW_FPS)
        seen = engine.decide(clip, list(RULES.values())).future.result()
        said = {r for r, d in zip(RULES, seen.decisions, strict=True) if d.answer == "yes"}
        if said != true:
            return False
    return True


def still(model: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Two cameras on a room where nothing happens, with the gate and without."""
    path = folder / "still.avi"
    films.still(9, seconds + 30, path)
    cameras: dict[str, dict[str, Any]] = {
        "gated": {"source": str(path)},
        "ungated": {"source": str(path), "gate": False},
    }
    found = watch(write_home(folder, model, cameras, heartbeat_s=1e6), seconds)
    gate_s = _gate_seconds(path)
    gated, ungated = found.spent["gated"], found.spent["ungated"]
    asked = sum(found.gate["gated"].values())
    # The engine computes on all cores while the gate does on one.
    cpu_s = _share(found.engine_cpu_s, gated.engine_s + ungated.engine_s) or 0.0
    return {
        **found.facts,
        "seconds": found.seconds,
        "gate": found.gate,
        "spent": {name: vars(spent) for name, spent in found.spent.items()},
        "gate_s": gate_s,
        "share_of_windows": _share(gated.windows, ungated.windows),
        "share_of_engine": _share(gated.engine_s, ungated.engine_s),
        "engine_cpu_s": found.engine_cpu_s,
        "share_with_the_gates_own": _share(
            cpu_s * gated.engine_s + asked * gate_s, cpu_s * ungated.engine_s
        ),
    }


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _gate_seconds(path: Path) -> float:
    """What one answer of the gate costs, asked of windows as the hub cuts them by default."""
    frames = Clip.from_file(path, fps=WINDOW_FPS, end=200, max_frames=400).frames
    settings, memory = GateSettings(), GateMemory()
    memory = examined(settings, memory, frames[:WINDOW_FRAMES], 0.0)
    step = int(CameraSettings.interval_s * CameraSettings.fps)
    starts = range(step, len(frames) - WINDOW_FRAMES, step)
    began = time.process_time()
    for start in starts:
        window = frames[start : start + WINDOW_FRAMES]
        memory, _ = gate(settings, memory, window, window[-1].time_s)
    return (time.process_time() - began) / len(starts)


def write_home(
    folder: Path, model: str, cameras: Mapping[str, Mapping[str, Any]], **gate_settings: float
) -> Path:
    """A home.toml with six rules on each camera."""
    tables: dict[str, Mapping[str, Any]] = {
        **{f"camera.{name}": settings for name, settings in cameras.items()},
        **{f"rule.{n}": {"text": t, "agree": AGREE, "of": OF} for n, t in RULES.items()},
        "gate": gate_settings,
        "journal": {"path": f"{'-'.join(cameras)}.sqlite"},
    }
    lines = [f"model = {json.dumps(model)}"]
    for name, settings in tables.items():
        lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in settings.items())]
    path = folder / f"{'-'.join(cameras)}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _write(path: Path | None, result: dict[str, Any]) -> None:
    """What is known so far."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--still-minutes", type=float, default=10)
    parser.add_argument("--cameras", type=int, default=4, choices=range(1, 5))
    parser.add_argument("--no-rtsp", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"host": describe_host()}
    model = str(Path(options.model).absolute()) if Path(options.model).exists() else options.model
    with tempfile.TemporaryDirectory() as temporary:
        folder, names = Path(temporary), CAMERAS[: options.cameras]
        seconds, still_seconds = options.minutes * 60, options.still_minutes * 60
        result["scripted"] = scripted(model, seconds, folder, names, rtsp=not options.no_rtsp)
        _write(options.out, result)
        result["still"] = still(model, still_seconds, folder)
        _write(options.out, result)
    shown = {**result["scripted"], "samples": "…", "told": "…"}
    print(json.dumps({**result, "scripted": shown}, indent=1))


if __name__ == "__main__":
    main()
