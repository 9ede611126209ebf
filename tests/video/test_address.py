from __future__ import annotations

from pathlib import Path

import pytest

from miloco_edge.errors import NotFoundError
from miloco_edge.video.address import Address


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("rtsp://cam/1", "rtsp"),
        ("RTSPS://cam/1", "rtsp"),
        ("rtmp://cam/live", "rtsp"),
        ("http://cam/video", "http"),
        ("https://cam/snap.jpg", "http"),
        ("0", "usb"),
        (2, "usb"),
        ("/dev/video0", "usb"),
    ],
)
def test_kinds(source: str | int, kind: str) -> None:
    assert Address.parse(source).kind == kind


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    assert Address.parse(str(tmp_path)).kind == "folder"
    assert Address.parse(str(tmp_path / "clip.mp4")).kind == "file"


@pytest.mark.parametrize(
    "source",
    ["ftp://a:s3cret@cam/1", "file:///etc/passwd", "concat:a|b", "nowhere", "", "data://x"],
)
def test_what_is_no_camera(source: str) -> None:
    with pytest.raises(NotFoundError, match="expected a camera") as caught:
        Address.parse(source)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.mp4: no such file or folder$"):
        Address.parse(str(tmp_path / "none.mp4"))
    with pytest.raises(NotFoundError) as caught:
        Address.parse("ftp://cam/1")
    assert "no such file" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://admin:s3cret@cam:554/1",
        "rtsp://:s3cret@cam/1",
        "rtsp://user@domain:s3cret@cam/1",
        "rtsp://admin:s3%40cret@[fe80::1]/1",
        "http://cam/snap?user=admin&password=s3cret",
        "http://cam/snap?TOKEN=s3cret",
        "rtsp://cam/user=admin_password=s3cret_channel=1",
    ],
)
def test_credentials_are_never_printed(url: str) -> None:
    address = Address.parse(url)
    assert address.has_password
    for shown in (str(address), repr(address), f"{address}", f"{[address]!r}"):
        assert "s3cret" not in shown
        assert "s3%40cret" not in shown
    assert address.secret() == url


def test_the_pickle_of_an_address_is_not_offered_by_attributes() -> None:
    address = Address.parse("rtsp://a:s3cret@cam/1")
    assert not hasattr(address, "__dict__")
    with pytest.raises(AttributeError):
        address.whole  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("url", "login", "rest"),
    [
        ("rtsp://admin:p%40ss@cam:554/1?a=b@c", ("admin", "p@ss"), "rtsp://cam:554/1?a=b@c"),
        ("rtsp://admin@cam/1", ("admin", ""), "rtsp://cam/1"),
        ("rtsp://cam/1@2", None, "rtsp://cam/1@2"),
    ],
)
def test_a_login_is_taken_apart(url: str, login: tuple[str, str] | None, rest: str) -> None:
    address = Address.parse(url)
    assert address.login == login
    assert address.secret(login=False) == rest


def test_a_login_is_given_with_any_characters() -> None:
    address = Address.parse("rtsp://old:one@cam/1").with_login("a:b", "p@ss/w:rd#?")
    assert address.login == ("a:b", "p@ss/w:rd#?")
    assert address.secret(login=False) == "rtsp://cam/1"
    assert address == Address.parse(address.secret())
    assert address != Address.parse("rtsp://cam/1")
    with pytest.raises(ValueError, match="expected a URL"):
        Address.parse(0).with_login("a", "b")
