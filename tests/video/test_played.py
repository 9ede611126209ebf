"""Files played in real time, folders that receive pictures."""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miloco_edge.errors import ClosedError, MediaNotFoundError
from miloco_edge.video.played import Inbox, Played, Pushed
from miloco_edge.video.source import Shot
from tests.video.conftest import WriteVideo, number_of, numbered


def test_a_file_is_played_in_real_time(write_video: WriteVideo) -> None:
    path = write_video(20, 20, "a.mkv")
    begun = time.monotonic()
    found = list(Played(path).shots(threading.Event(), fps=10.0))
    assert time.monotonic() - begun >= 0.85
    assert [number_of(shot.pixels) for shot in found] == list(range(0, 20, 2))
    gaps = np.diff([shot.arrival_s for shot in found])
    assert gaps == pytest.approx(0.1, abs=0.002), "moments of capture, however late it was read"


def test_a_loop_goes_on_without_a_gap(write_video: WriteVideo) -> None:
    path = write_video(4, 20, "a.mkv")
    shots = Played(path, loop=True).shots(threading.Event(), fps=20.0)
    found = list(itertools.islice(shots, 10))
    assert [number_of(shot.pixels) for shot in found] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert np.diff([shot.arrival_s for shot in found]) == pytest.approx(0.05, abs=0.002)


def test_a_played_file_stops_when_told(write_video: WriteVideo) -> None:
    stop = threading.Event()
    shots = Played(write_video(200, 2, "a.mkv")).shots(stop, fps=2.0)
    next(shots)
    stop.set()
    assert list(shots) == []


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFoundError):
        next(Played(tmp_path / "a.mp4").shots(threading.Event(), fps=1.0))
    with pytest.raises(MediaNotFoundError):
        next(Inbox(tmp_path / "none").shots(threading.Event(), fps=1.0))


def save(folder: Path, name: str, index: int, age_s: float = 0.0) -> None:
    whole = folder / f".{name}.part"
    Image.fromarray(numbered(index)).save(whole, "PNG")
    written = time.time() - age_s
    os.utime(whole, (written, written))
    whole.rename(folder / name)


def test_a_folder_gives_each_new_picture_once(tmp_path: Path) -> None:
    save(tmp_path, "old.png", 99, age_s=60)
    stop = threading.Event()
    shots = Inbox(tmp_path).shots(stop, fps=1.0)
    found: list[Shot] = []
    reader = threading.Thread(target=lambda: found.extend(shots))
    reader.start()
    try:
        for i in range(3):
            time.sleep(0.3)
            save(tmp_path, f"{i}.png", i)
        (tmp_path / "4.txt").write_text("no picture")
        end_s = time.monotonic() + 20
        while len(found) < 3 and time.monotonic() < end_s:
            time.sleep(0.05)
    finally:
        stop.set()
        reader.join()
    assert [number_of(shot.pixels) for shot in found] == [0, 1, 2]
    now, times = time.monotonic(), [shot.arrival_s for shot in found]
    assert times == sorted(times)
    assert all(0 <= now - moment < 25 for moment in times)


def test_a_picture_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    save(tmp_path, "whole.png", 7)
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "whole.png").unlink()
    stop = threading.Event()
    shots = Inbox(tmp_path).shots(stop, fps=1.0)
    found: list[Shot] = []
    reader = threading.Thread(target=lambda: found.extend(shots))
    reader.start()
    try:
        time.sleep(0.3)
        with (tmp_path / "slow.png").open("wb") as file:
            file.write(whole[: len(whole) // 2])
            file.flush()
            time.sleep(0.6)
            assert not found
            file.write(whole[len(whole) // 2 :])
        end_s = time.monotonic() + 20
        while not found and time.monotonic() < end_s:
            time.sleep(0.05)
    finally:
        stop.set()
        reader.join()
    assert [number_of(shot.pixels) for shot in found] == [7]


def test_an_array_that_is_written_to_again_is_another_frame() -> None:
    source, same = Pushed("host"), numbered(0)
    for i in range(3):
        same[:] = numbered(i)
        source.push(same)
    source.end()
    shown = [shot.pixels for shot in source.shots(threading.Event(), fps=2)]
    assert all(np.array_equal(pixels, numbered(i)) for i, pixels in enumerate(shown))
    assert len(shown) == 3


def test_pushed_frames_do_not_pile_up() -> None:
    source = Pushed("host", most=3)
    for i in range(10):
        source.push(numbered(i), float(i))
    source.end()
    found = list(source.shots(threading.Event(), fps=1.0))
    assert [shot.arrival_s for shot in found] == [7.0, 8.0, 9.0]
    with pytest.raises(ClosedError):
        source.push(numbered(0))


def test_only_pictures_may_be_pushed() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match=r"expected \(h, w, 3\) uint8"):
            Pushed("host").push(wrong)  # type: ignore[arg-type]
