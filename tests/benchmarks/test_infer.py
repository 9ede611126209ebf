"""The command is run as a process of its own, and held to what it says."""

from __future__ import annotations

from pathlib import Path

from benchmarks.infer import infer

CLIP = Path(__file__).parents[2] / "models" / "demo" / "ball.mp4"


def test_a_deadline_that_cannot_be_kept_is_told(pair: Path) -> None:
    run = infer(pair, CLIP, "--deadline", "0.001", "--threads", "1", "--context", "1024")
    assert run["finish_reason"] == "deadline"
    assert 0 < run["beside_loading_s"] < run["timings"]["total_s"] < run["process_s"]
    assert run["timings"]["video_s"] > 0 and run["video"]["frames"] > 0
