"""Where a camera is, printed without what opens it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from miloco_edge.errors import NotFoundError

Kind = Literal["rtsp", "http", "usb", "file", "folder"]

STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps")
WEB = ("http", "https")

_USERINFO = re.compile(r"://.*@", re.DOTALL)
_PASSWORD = re.compile(r"(?i)((?:pass|pwd|token|secret|key|auth)\w*=)[^&;/\s]+")
_SECRET = re.compile(r"(?i)((?:pass|pwd|token|secret|key|auth|user)\w*=)[^&;/\s]*")


def masked(source: str | int) -> str:
    """`source` as it may be shown: without user names, passwords and tokens."""
    if isinstance(source, int) or source.isdigit():
        return f"USB camera {source}"
    return without_secrets(source)


def without_secrets(text: str) -> str:
    """`text` with what looks like user names, passwords and tokens of URLs masked."""
    return _SECRET.sub(r"\1***", _USERINFO.sub("://***@", text))


def host_and_port(url: str) -> tuple[str, int | None]:
    """Of an HTTP address. Raises ValueError where it names no host, or a port that none can be."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not url.startswith(("http://", "https://")):
        raise ValueError(
            f"expected http(s)://HOST[:PORT] with a port up to 65535, got {masked(url)}"
        )
    return host, port


class Address:
    """A camera's address. It prints masked, in errors, logs and tracebacks too.

    Address.parse("rtsp://nursery.local/stream1").with_login("admin", password)

    Only `secret()` gives the whole of it.
    """

    __slots__ = ("__whole", "kind")

    def __init__(self, kind: Kind, whole: str) -> None:
        self.kind: Kind = kind
        self.__whole = whole

    @classmethod
    def parse(cls, source: str | int) -> Address:
        """Read an RTSP, RTMP or HTTP URL, a USB camera's index or device, a file or a folder.

        Raises `NotFoundError` for anything else; nothing is opened.
        """
        text = str(source).strip()
        if text.isdigit() or text.startswith("/dev/"):
            return cls("usb", text)
        scheme, separator, _ = text.partition("://")
        if separator:
            if scheme.lower() in STREAMS:
                return cls("rtsp", text)
            if scheme.lower() in WEB:
                return cls("http", text)
        elif text and Path(text).is_dir():
            return cls("folder", text)
        elif Path(text).is_file():
            return cls("file", text)
        said = "" if separator or not text else ": no such file or folder"
        raise NotFoundError(
            f"expected a camera, got {masked(text)}{said}",
            hint=f"name it as {'://, '.join((*STREAMS, *WEB))}://, a USB camera's index, "
            "a device, a video file or a folder that receives pictures",
        )

    def with_login(self, user: str, password: str) -> Address:
        """The same URL for a user; what it had of its own is replaced."""
        before, _, after = _split(self.__whole)
        if not before:
            raise ValueError(f"with_login: expected a URL, got {self}")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
        return Address(self.kind, before + login + after)

    @property
    def live(self) -> bool:
        """Whether a sensor is behind it, whose picture never stays as it is to the last bit."""
        return self.kind in ("rtsp", "http", "usb")

    @property
    def has_password(self) -> bool:
        """Whether a password, key or token is part of the URL, as far as can be told."""
        before, userinfo, after = _split(self.__whole)
        return bool(before) and (":" in userinfo or _PASSWORD.search(after) is not None)

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password of the URL, decoded; None where there are none. A secret."""
        user, colon, password = _split(self.__whole)[1].partition(":")
        return (unquote(user), unquote(password)) if user or colon else None

    def secret(self, *, login: bool = True) -> str:
        """The whole address, or all but user and password. Show it to nobody."""
        before, userinfo, after = _split(self.__whole)
        return before + (f"{userinfo}@" if userinfo and login else "") + after

    def __str__(self) -> str:
        return masked(self.__whole)

    def __repr__(self) -> str:
        return f"Address({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.secret() == other.secret()

    def __hash__(self) -> int:
        return hash(self.__whole)


def _split(text: str) -> tuple[str, str, str]:
    """A URL as what stands before user and password, these two, and the rest."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return "", "", text
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, _ = authority.rpartition("@")
    return f"{scheme}://", userinfo, rest[len(userinfo) + len(at) :]
