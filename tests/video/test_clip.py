from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miloco_edge.errors import MediaError, MediaNotFoundError
from miloco_edge.video import Clip, Frame, decode
from tests.video.conftest import WriteVideo, number_of, numbered


def numbers(clip: Clip) -> list[int]:
    return [number_of(frame.pixels) for frame in clip.frames]


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4", "clip.mkv"])
def test_a_whole_file_is_sampled_as_qwen_vl_utils_does(write_video: WriteVideo, name: str) -> None:
    clip = Clip.from_file(write_video(100, 25, name))
    expected = np.linspace(0, 99, 8).round().astype(int).tolist()
    assert numbers(clip) == expected
    assert clip.times_s == pytest.approx([i / 25 for i in expected], abs=0.001)
    assert clip.fps == pytest.approx(2.0)
    assert clip.layout == "video"
    assert clip.frames[0].size == (128, 64)


def test_start_end_and_number_of_frames(write_video: WriteVideo) -> None:
    path = write_video(250, 25)
    clip = Clip.from_file(path, start=2, end=6, fps=1)
    assert numbers(clip) == np.linspace(50, 150, 4).round().astype(int).tolist()
    assert clip.times_s[0] == pytest.approx(2.0)
    assert clip.fps == pytest.approx(4 / (101 / 25))
    assert numbers(Clip.from_file(path, frames=5)) == [0, 83, 166, 249]  # half to even: 4
    assert numbers(Clip.from_file(path, frames=1)) == [0]
    assert len(Clip.from_file(path, fps=25, max_frames=10).frames) == 10
    assert numbers(Clip.from_file(path, start=3.0, end=3.0)) == [75]


def test_short_files(write_video: WriteVideo) -> None:
    assert numbers(Clip.from_file(write_video(1))) == [0]
    assert numbers(Clip.from_file(write_video(3))) == [0, 2]
    clip = Clip.from_file(write_video(30, 30))
    assert numbers(clip) == [0, 10, 19, 29]
    assert clip.fps == pytest.approx(4.0)


def test_a_variable_rate_is_sampled_by_time(data: Path) -> None:
    times = [i * 0.1 for i in range(40)] + [4 + i * 0.7 for i in range(20)]
    clip = Clip.from_file(data / "variable.mp4", frames=12)
    assert clip.times_s == pytest.approx([times[n] for n in numbers(clip)], abs=0.002)
    moments = np.linspace(0, times[-1], 12)
    assert np.abs(np.array(clip.times_s) - moments).max() <= 0.35 + 1e-6
    assert (clip.times_s[0], clip.times_s[-1]) == pytest.approx((0.0, 17.3), abs=0.001)
    slow = Clip.from_file(data / "variable.mp4", start=4, fps=1)
    assert len(slow.frames) == 14  # 20 frames that last 14 seconds
    assert slow.fps == pytest.approx(1.0)


def test_rotation_is_honoured(data: Path) -> None:
    clip = Clip.from_file(data / "rotated.mp4", frames=12)
    assert clip.frames[0].size == (64, 128)
    turned_back = [number_of(np.rot90(frame.pixels, -1)) for frame in clip.frames]
    assert turned_back == list(range(12))


def test_a_raw_stream_is_counted(data: Path) -> None:
    clip = Clip.from_file(data / "raw.h264")
    assert numbers(clip) == [0, 16, 33, 49]
    assert clip.times_s == pytest.approx([0.0, 0.64, 1.32, 1.96])


def test_a_trimmed_file_shows_what_a_player_would(data: Path) -> None:
    """Its packets begin at the key frame before the cut, and so are more than its frames."""
    clip = Clip.from_file(data / "trimmed.mp4")
    assert numbers(clip) == [30, 40, 49, 59]
    assert clip.times_s == pytest.approx([0, 0.4, 0.76, 1.16], abs=0.001)


@pytest.mark.parametrize("name", ["variable.mp4", "long.mp4"])
def test_seeking_lands_where_decoding_would(
    data: Path, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = data / name if name == "variable.mp4" else write_video(240, 30, name)
    line = decode.timeline(path)
    indices = list(range(5, len(line.times), 13))
    plain = list(decode.read_frames(path, line, indices))
    monkeypatch.setattr(decode, "SEEK_FRAMES", 1)
    seeks = []
    seek = decode._Decoder._seek

    def counted(self: decode._Decoder, index: int) -> None:
        before = self.grabbed
        seek(self, index)
        seeks.append(self.grabbed - before)

    monkeypatch.setattr(decode._Decoder, "_seek", counted)
    sought = list(decode.read_frames(path, line, indices))
    assert any(seeks)
    assert [time for time, _ in sought] == [time for time, _ in plain]
    assert [number_of(pixels) for _, pixels in sought] == indices
    for (_, one), (_, other) in zip(plain, sought, strict=True):
        assert np.array_equal(one, other)


def test_an_animation_is_a_video(tmp_path: Path) -> None:
    frames = [Image.fromarray(numbered(i)) for i in range(8)]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], duration=250, loop=0
        )
        clip = Clip.from_file(tmp_path / name)
        assert numbers(clip) == [0, 2, 5, 7], name
        assert clip.times_s == pytest.approx([0, 0.5, 1.25, 1.75])
        assert clip.fps == pytest.approx(2.0)


def test_pictures_come_upright_in_rgb(tmp_path: Path) -> None:
    sideways = np.rot90(numbered(11)).copy()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(sideways).save(tmp_path / "turned.png", exif=exif)
    clip = Clip.from_file(tmp_path / "turned.png")
    assert numbers(clip) == [11]
    assert (len(clip.frames), clip.layout) == (1, "video")

    tags = struct.pack("<HHIIHHII", 0x0112, 3, 1, 6, 0x0128, 4, 1, 1 << 16)  # no unit is 65536
    wrong = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + tags + bytes(4)
    Image.fromarray(sideways).save(tmp_path / "wrong.jpg", exif=wrong)
    assert numbers(Clip.from_file(tmp_path / "wrong.jpg")) == [11]

    grey = np.array([[0, 0x4000], [0x8000, 0xFFFF]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    deep = Clip.from_file(tmp_path / "deep.png").frames[0].pixels
    assert deep[:, :, 0].tolist() == [[0, 0x40], [0x80, 0xFF]]
    assert np.ptp(deep, axis=2).max() == 0

    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, :, :3], clear[:, 0, 3] = (255, 0, 0), 255
    Image.fromarray(clear).save(tmp_path / "clear.webp", lossless=True)
    pixels = Clip.from_file(tmp_path / "clear.webp").frames[0].pixels
    assert pixels.tolist() == [[[255, 0, 0], [255, 255, 255]], [[0, 0, 0], [255, 255, 255]]]

    for mode in ("L", "1", "P", "CMYK", "LA"):
        Image.new(mode, (5, 3)).save(tmp_path / f"{mode}.tiff")
        assert Clip.from_file(tmp_path / f"{mode}.tiff").frames[0].size == (5, 3)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(numbered(5)).save(tmp_path / "still.mp4", format="PNG")
    assert numbers(Clip.from_file(tmp_path / "still.mp4")) == [5]


def test_a_folder_is_a_video_in_the_order_of_names(tmp_path: Path) -> None:
    for i in (1, 2, 3, 10, 11):
        Image.fromarray(numbered(i)).save(tmp_path / f"frame{i}.PNG")
    (tmp_path / "notes.txt").write_text("not a picture")
    clip = Clip.from_folder(tmp_path, fps=4)
    assert numbers(clip) == [1, 2, 3, 10, 11]
    assert clip.times_s == (0, 0.25, 0.5, 0.75, 1.0)
    assert (clip.fps, clip.layout) == (4, "video")
    fewer = Clip.from_folder(tmp_path, fps=4, max_frames=2)
    assert (numbers(fewer), fewer.fps) == ([1, 11], pytest.approx(1.6))
    assert numbers(Clip.from_folder(tmp_path, fps=4, start=0.5, end=0.75)) == [3, 10]
    with pytest.raises(MediaError, match="from 9 s"):
        Clip.from_folder(tmp_path, start=9)

    Image.new("RGB", (8, 8)).save(tmp_path / "frame12.png")
    with pytest.raises(MediaError, match="128x64 throughout, got 8x8"):
        Clip.from_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="got none"):
        Clip.from_folder(tmp_path / "empty")
    with pytest.raises(MediaNotFoundError):
        Clip.from_folder(tmp_path / "nowhere")


def test_separate_pictures_keep_their_sizes(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    clip = Clip.from_images([tmp_path / "a.jpg", str(tmp_path / "a.jpg"), numbered(3)])
    assert [frame.size for frame in clip.frames] == [(30, 20), (30, 20), (128, 64)]
    assert clip.layout == "images"
    with pytest.raises(MediaNotFoundError):
        Clip.from_images([tmp_path / "b.jpg"])


def test_frames_that_the_caller_has() -> None:
    clip = Clip.from_frames((numbered(i) for i in range(3)), fps=2)
    assert clip.times_s == (0, 0.5, 1.0)
    assert Clip.from_frames([numbered(0)] * 2, 2, times=[7, 8]).times_s == (7, 8)
    with pytest.raises(ValueError, match="at least one frame"):
        Clip.from_frames([], fps=2)
    with pytest.raises(ValueError, match="one size"):
        Clip.from_frames([numbered(0), numbered(0)[:32]], fps=2)
    with pytest.raises(ValueError, match="fps"):
        Clip((Frame(numbered(0), 0.0),), 0.0, "x")
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"\(h, w, 3\) uint8"):
            Frame(wrong, 0.0)


def test_opencv_is_loaded_by_the_first_decode_alone() -> None:
    code = "import sys, miloco_edge.video; assert 'cv2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
