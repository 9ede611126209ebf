"""Bad media: one line with a hint, never a crash, never a hang."""

from __future__ import annotations

import builtins
import logging
import os
import struct
import subprocess
import sys
import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miloco_edge.errors import MediaError, MediaNotFoundError, MilocoEdgeError
from miloco_edge.video import Clip, opencv
from tests.video.conftest import WriteVideo, number_of, numbered


def refusal(path: Path, **how: Any) -> MediaError:
    with pytest.raises(MediaError) as caught:
        Clip.from_file(path, **how)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


def test_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.mp4", tmp_path / "no" / "where.jpg"):
        with pytest.raises(MediaNotFoundError, match="found nothing"):
            Clip.from_file(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg", "a"])
def test_not_media(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert "empty file" in str(refusal(path))
    expected = "expected a picture, got something else" if ".jpg" in name else "nothing that can be"
    path.write_bytes(os.urandom(5000))
    assert expected in str(refusal(path))
    path.write_bytes(b"\0" * 5000)
    assert expected in str(refusal(path))


def test_a_text_is_no_film(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("A film of a text: 你好。\n" * 200)
    assert "got text" in str(refusal(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n\0",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n\0",
    ],
)
def test_a_playlist_is_not_followed(write_video: WriteVideo, tmp_path: Path, text: str) -> None:
    (tmp_path / "list.mp4").write_text(text.format(path=write_video(10)))
    assert "playlist" in str(refusal(tmp_path / "list.mp4"))


def test_audio_only(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\1" * 8000)
    assert "nothing that can be shown" in str(refusal(tmp_path / "a.wav"))


def test_zero_frames(write_video: WriteVideo, tmp_path: Path) -> None:
    whole = write_video(10).read_bytes()
    (tmp_path / "none.avi").write_bytes(whole[: whole.index(b"movi") + 4])
    assert "nothing that can be shown" in str(refusal(tmp_path / "none.avi"))


def test_cut_short(
    write_video: WriteVideo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An AVI without its end still shows what it has; an MP4 without its index shows nothing."""
    whole = write_video(250).read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING, "miloco_edge"):
        clip = Clip.from_file(tmp_path / "half.avi")
    last = number_of(clip.frames[-1].pixels)
    assert 100 < last < 150
    assert clip.times_s[-1] == pytest.approx(last / 25)
    assert "cut short" in caplog.text

    whole = write_video(50, name="whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    error = refusal(tmp_path / "half.mp4")
    assert error.hint is not None
    assert "OpenCV could not decode" in error.hint


def test_damaged_frames_are_passed_over(write_video: WriteVideo, tmp_path: Path) -> None:
    damaged = bytearray(write_video(100, name="a.mkv").read_bytes())
    for at in range(len(damaged) // 3, len(damaged) // 2, 200):
        damaged[at] ^= 0xFF
    (tmp_path / "damaged.mkv").write_bytes(damaged)
    clip = Clip.from_file(tmp_path / "damaged.mkv")
    assert number_of(clip.frames[0].pixels) == 0
    assert number_of(clip.frames[-1].pixels) == 99


def test_a_damaged_end_is_left_out(
    write_video: WriteVideo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = bytearray(write_video(100).read_bytes())
    spoil(body, first=60)
    (tmp_path / "damaged.avi").write_bytes(body)
    with caplog.at_level(logging.WARNING, "miloco_edge"):
        clip = Clip.from_file(tmp_path / "damaged.avi")
    expected = np.linspace(0, 59, 4).round().astype(int).tolist()
    assert [number_of(frame.pixels) for frame in clip.frames] == expected
    assert "60 of 100 frames decode, the last at 2.36 s" in caplog.text


def spoil(body: bytearray, first: int) -> None:
    """Zero the frames of an AVI from `first` on, and keep its structure."""
    at, end = body.index(b"movi") + 4, body.index(b"idx1")
    index = 0
    while at < end:
        size = struct.unpack_from("<I", body, at + 4)[0]
        if index >= first:
            body[at + 8 : at + 8 + size] = b"\0" * size
        at += 8 + size + size % 2
        index += 1


def test_frames_that_do_not_decode(write_video: WriteVideo, tmp_path: Path) -> None:
    body = bytearray(write_video(20).read_bytes())
    spoil(body, first=0)
    (tmp_path / "spoilt.avi").write_bytes(body)
    assert "none that decodes" in str(refusal(tmp_path / "spoilt.avi"))


def test_moments_outside_the_file(write_video: WriteVideo) -> None:
    path = write_video(50, 25)
    error = refusal(path, start=10)
    assert error.hint == "it shows frames from 0 s to 1.96 s"
    refusal(path, start=1, end=0.5)


def test_what_is_not_a_file(tmp_path: Path) -> None:
    assert "folder" in str(refusal(tmp_path))
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "something else" in str(refusal(tmp_path / "pipe.mp4"))


def test_a_picture_cut_short(tmp_path: Path) -> None:
    Image.fromarray(numbered(7)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert "expected a whole picture" in str(refusal(tmp_path / "half.jpg"))
    (tmp_path / "most.jpg").write_bytes(whole[:-40])
    assert "expected a whole picture" in str(refusal(tmp_path / "most.jpg"))
    with pytest.raises(MediaError, match="expected a picture, got something else"):
        Clip.from_images([Path(__file__)])


def test_absurd_sizes(tmp_path: Path) -> None:
    for side in (10_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        png = b"\x89PNG\r\n\x1a\n"
        for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
            png += struct.pack(">I", len(body)) + name + body
            png += struct.pack(">I", zlib.crc32(name + body))
        (tmp_path / "vast.png").write_bytes(png)
        assert "at most 89478485 pixels" in str(refusal(tmp_path / "vast.png"))


def test_a_video_too_large(write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miloco_edge.video.decode.MAX_PIXELS", 100 * 64)
    assert "got 128x64" in str(refusal(write_video(5)))


def test_large_frames_are_fewer(
    write_video: WriteVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(100, 10)
    monkeypatch.setattr("miloco_edge.video.clip.CLIP_BYTES", 7 * 128 * 64 * 3)
    assert len(Clip.from_file(path, fps=10).frames) == 6
    first, *rest = [Image.fromarray(numbered(i)) for i in range(20)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=100)
    assert len(Clip.from_file(tmp_path / "a.gif", fps=10).frames) == 6
    (tmp_path / "folder").mkdir()
    for i in range(20):
        first.save(tmp_path / "folder" / f"{i}.png")
    assert len(Clip.from_folder(tmp_path / "folder").frames) == 6


def test_opencv_without_its_shared_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def bare_machine(name: str, *rest: Any) -> Any:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file")
        return true_import(name, *rest)

    (tmp_path / "a.mp4").write_bytes(b"\0\1\2\3")
    opencv.load.cache_clear()
    monkeypatch.setattr(builtins, "__import__", bare_machine)
    try:
        with pytest.raises(MilocoEdgeError, match=r"libGL\.so\.1") as caught:
            Clip.from_file(tmp_path / "a.mp4")
    finally:
        opencv.load.cache_clear()
    assert caught.value.hint is not None
    assert "opencv-python-headless" in caught.value.hint


def test_nothing_is_said_on_stderr(tmp_path: Path) -> None:
    """FFmpeg's log level is set once a process, so this is seen in a fresh one."""
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 2000)
    code = f"""if True:
        import cv2, os
        from miloco_edge.errors import MediaError
        from miloco_edge.video import Clip
        before = cv2.utils.logging.getLogLevel(), dict(os.environ)
        try:
            Clip.from_file({str(tmp_path / "a.mp4")!r})
        except MediaError:
            assert (cv2.utils.logging.getLogLevel(), dict(os.environ)) == before
        else:
            raise AssertionError("decoded zeros")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
