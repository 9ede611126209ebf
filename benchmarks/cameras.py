"""Four cameras with 24 rules for half an hour: what is found, how late, and what grows.

    python -m benchmarks.cameras MODEL --minutes 30 --out benchmarks/results/cameras-demo.json
    python -m benchmarks.cameras MODEL --minutes 30 --rtsp        # the last camera over real RTSP

Each camera plays a script of drawn scenes in real time, each scene for some seconds, so that it is
known to half a second when every activity begins and ends. An activity that is long enough to be
seen must be told once: `found`, `missed`, `twice` and `false` count what was told of all of them.
Latency is from the capture of a window's last frame to its decision. Memory, threads and file
descriptors of the hub's process and the engine's are read every ten seconds; the slope is a least
squares fit after the first tenth of the time, with its 95 % interval.

RTSP needs GStreamer's server (see tests/integration/rtsp_server.py).
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.host import describe_host
from miloco_edge.engine.child import ChildEngine
from miloco_edge.hub import config
from miloco_edge.hub.connect import engine_for
from miloco_edge.hub.event import Event
from miloco_edge.hub.hub import Hub
from miloco_edge.hub.journal import query
from models.demo.scenes.categories import ACTIVITIES
from models.demo.scenes.compose import plan
from models.demo.scenes.render import source_frames
from models.demo.scenes.seeds import SEEDS

CAMERAS = ("hall", "den", "study", "lounge")
RULES = {
    "watch_tv": "Someone is watching TV",
    "reading": "Someone is reading",
    "phone": "Someone is playing on the phone",
    "esports": "Someone is playing esports",
    "workout": "Someone is working out",
    "person": "There is a person in the room",
}
SIZE = (336, 252)
FPS = 5
SAMPLE_S = 10.0
SETTLE_S = 8.0
"""How long after its end something may still be told: a window, an interval and the engine."""


@dataclass(frozen=True)
class Block:
    """A scene of a script, in seconds from its start."""

    start_s: float
    end_s: float
    category: str


def script(seed: int, seconds: float, path: Path, block_s: float = 30.0) -> list[Block]:
    """Write a video of scenes, one activity after another, and say when each is to be seen."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE)
    random = np.random.default_rng(seed)
    blocks: list[Block] = []
    scenes = {each: _scenes(each, seed) for each in ACTIVITIES}
    for start in np.arange(0, seconds, block_s).tolist():
        others = [each for each in ACTIVITIES if not blocks or each != blocks[-1].category]
        category = str(random.choice(others))
        frames = scenes[category][int(random.integers(len(scenes[category])))]
        there_and_back = np.concatenate([frames, frames[-2:0:-1]])
        for i in range(int(block_s * FPS)):
            picture = there_and_back[i % len(there_and_back)]
            noise = random.integers(0, 4, picture.shape, dtype=np.uint8)  # a sensor is never still
            writer.write(cv2.add(picture, noise)[..., ::-1])
        blocks.append(Block(start, start + block_s, category))
    writer.release()
    return blocks


def _scenes(category: str, seed: int, count: int = 2) -> list[np.ndarray]:
    """Frames of scenes in which one person does the same all the time: (n, h, w, 3) each."""
    found: list[np.ndarray] = []
    number = SEEDS["test"].start + seed * 100_000
    while len(found) < count:
        number += 1
        planned = plan(number)
        events = planned.events
        if [event.category for event in events] != [category] or len(planned.actors) > 1:
            continue
        if events[0].start_s > 0 or events[0].end_s < planned.seconds:
            continue
        every = max(1, planned.source_fps // FPS)
        frames = source_frames(planned)[::every]
        found.append(np.stack([cv2.resize(f, SIZE, interpolation=cv2.INTER_AREA) for f in frames]))
    return found


def score(events: Sequence[Event], blocks: Sequence[Block], began: float) -> dict[str, int]:
    """What was told of one camera's activities; `began` is when its script did."""
    told = [
        (event.rule.id, event.time - began)
        for event in events
        if event.state == "on" and event.rule.id in ACTIVITIES and event.reason != "seen_again"
    ]
    counts = Counter({"found": 0, "missed": 0, "twice": 0, "false": 0})
    for block in blocks:
        during = [
            each
            for each in told
            if each[0] == block.category and block.start_s <= each[1] < block.end_s + SETTLE_S
        ]
        counts["found" if during else "missed"] += 1
        counts["twice"] += max(0, len(during) - 1)
        told = [each for each in told if each not in during]
    counts["false"] = len(told)
    return dict(counts)


def slope(samples: Sequence[dict[str, float]], name: str) -> dict[str, float]:
    """Growth per hour of what was sampled, with its 95 % interval."""
    kept = samples[len(samples) // 10 :]
    hours = np.array([each["s"] for each in kept]) / 3600
    values = np.array([each[name] for each in kept], float)
    if len(kept) < 4:
        return {"per_hour": float("nan"), "interval": float("nan")}
    (per_hour, _), covariance = np.polyfit(hours, values, 1, cov=True)
    return {"per_hour": float(per_hour), "interval": float(1.96 * np.sqrt(covariance[0, 0]))}


def sample(hub: Hub, began: float) -> dict[str, float]:
    """What the two processes hold now."""
    assert isinstance(hub.engine, ChildEngine)
    found = {"s": time.monotonic() - began, **_held("self", "hub")}
    return {**found, **_held(str(hub.engine.pid), "engine")}


def _held(pid: str, name: str) -> dict[str, float]:
    process = Path("/proc") / pid
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    return {
        f"{name}_resident_bytes": int(status["VmRSS"].split()[0]) * 1024,
        f"{name}_threads": int(status["Threads"]),
        f"{name}_descriptors": len(list((process / "fd").iterdir())),
    }


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The file over real RTSP on loopback, as H.264."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Path(__file__).parents[1] / "tests" / "integration" / "rtsp_server.py"
    code = server.read_text().replace(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,width=448,height=252,framerate=15/1 ",
        f"filesrc location={path} ! avidemux ! jpegdec ! videoconvert ! identity sync=true ",
    )
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", code, str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("GStreamer's RTSP server did not start")
        try:
            yield f"rtsp://127.0.0.1:{port}/stream1"
        finally:
            process.terminate()


def home(folder: Path, model: str, sources: dict[str, str]) -> Path:
    """The home.toml of the run: six rules on each camera."""
    lines = [f"model = {json.dumps(model)}"]
    for name, source in sources.items():
        lines += [f"[camera.{name}]", f"source = {json.dumps(source)}", "frozen_after_s = 1e6"]
    for rule, text in RULES.items():
        lines += [f"[rule.{rule}]", f"text = {json.dumps(text)}", "agree = 2", "of = 3"]
    path = folder / "home.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(hub: Hub, seconds: float) -> tuple[list[Event], dict[str, float], list[dict[str, float]]]:
    """Watch: what was told, when each camera began (since 1970), and what was held."""
    events: list[Event] = []
    began: dict[str, float] = {}
    samples: list[dict[str, float]] = []
    start = time.monotonic()
    with hub:
        hub.on_event(events.append)
        while (elapsed := time.monotonic() - start) < seconds:
            for name, feed in hub._feeds.items():
                if name not in began and (frames := feed.frames()):
                    began[name] = frames[0].time_s + hub.clock.epoch_s
            if elapsed >= SAMPLE_S * len(samples):
                samples.append(sample(hub, start))
            time.sleep(0.05)
    return events, began, samples


def measure(model: str, minutes: float, folder: Path, *, rtsp: bool) -> dict[str, Any]:
    """One run, from drawing to figures."""
    seconds = minutes * 60
    files = {name: folder / f"{name}.avi" for name in CAMERAS}
    scripts = {name: script(i + 1, seconds, files[name]) for i, name in enumerate(CAMERAS)}
    sources = {name: str(path) for name, path in files.items()}
    with ExitStack() as stack:
        if rtsp:
            sources[CAMERAS[-1]] = stack.enter_context(served(files[CAMERAS[-1]]))
        read = config.read(home(folder, model, sources))
        engine = engine_for(read)
        engine.load()
        hub = Hub(read, engine)
        events, began, samples = run(hub, seconds)
        watches = [watch for each in hub._watches.values() for watch in each]
    decisions = list(query(read.journal.path, "decisions"))
    latencies = [each["latency_s"] for each in decisions if each["latency_s"] is not None]
    return {
        "model": engine.name,
        "minutes": minutes,
        "rules": len(RULES) * len(CAMERAS),
        "scores": {
            name: score(
                [event for event in events if event.camera == name], scripts[name], began[name]
            )
            for name in CAMERAS
        },
        "events": Counter(f"{event.state}:{event.reason}" for event in events),
        "decisions": len(decisions),
        "latency_s": {
            f"p{q}": float(np.percentile(latencies, q)) if latencies else None for q in (50, 95, 99)
        },
        "gate": {watch.camera: dict(watch.gate.counts) for watch in watches},
        "overload_step": hub._overload.step,
        "restarts": engine.restarts if isinstance(engine, ChildEngine) else 0,
        "growth": {name: slope(samples, name) for name in samples[0] if name != "s"},
        "samples": samples,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rtsp", action="store_true", help="serve the last camera over RTSP")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.model, options.minutes, Path(folder), rtsp=options.rtsp)
    document = json.dumps({"host": describe_host(), **figures}, indent=1)
    print(document)
    if options.out is not None:
        options.out.write_text(document + "\n")


if __name__ == "__main__":
    main()
