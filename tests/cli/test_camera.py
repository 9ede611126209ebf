"""`camera probe` on a file and on a folder that gets no picture."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from miloco_edge.cli.main import main


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mkv"
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64)
    )
    for i in range(10):
        writer.write(np.full((64, 96, 3), 20 * i, np.uint8))
    writer.release()
    return path


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["camera", "probe", *args])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_what_a_camera_sends(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = clip.with_name("seen.png")
    code, out, _ = run(capsys, str(clip), "--seconds", "2", "--save", str(picture), "--json")
    document = json.loads(out)
    assert code == 0
    assert document["size"] == [96, 64]
    assert document["fps"] == pytest.approx(10, abs=0.5)
    assert document["frames"] == 10
    assert document["frozen"] is False
    assert document["saved"] == str(picture)
    with Image.open(picture) as image:
        assert image.size == (96, 64)


@pytest.mark.parametrize(
    ("name", "format"),
    [("seen", "PNG"), ("seen.psd", "PNG"), ("seen.JPG", "JPEG"), ("seen.webp", "WEBP")],
)
def test_a_picture_needs_no_suffix(
    clip: Path, name: str, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = clip.with_name(name)
    assert run(capsys, str(clip), "--seconds", "0.5", "--save", str(picture))[0] == 0
    with Image.open(picture) as image:
        assert image.format == format


def test_the_same_for_people(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(clip), "--seconds", "0.5")
    assert code == 0
    first, size, *_ = out.splitlines()
    assert first.startswith("source"), "no header, since nothing would stand in it"
    assert size.split() == ["size", "96x64"]


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "rtsp://a:s3cret@127.0.0.1:1/x", "--timeout", "1", "--json")
    assert code == 3
    assert json.loads(out)["error"]["type"] == "NotFoundError"
    assert "s3cret" not in out + err


def test_nothing_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, str(tmp_path), "--timeout", "0.5")
    assert code == 4
    assert "none within 0.5 s" in err
