"""Pictures and videos as requests carry them: by value, as base64, and never by name.

The text of a data URI is not decoded here but in the process that also decodes what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miloco_edge.serve.refusal import Refusal, bad_request

Kind = Literal["picture", "video", "frames"]


@dataclass(frozen=True)
class Medium:
    """One picture, one video file, or one video as a list of pictures."""

    kind: Kind
    data: tuple[str, ...]
    """base64; one but for frames."""
    fps: float | None = None
    """Frames a second to sample (video), or between frames (frames); 2 by default."""


@dataclass(frozen=True)
class Remote:
    """Media that a request names by address; fetched where the host is allowed."""

    kind: Kind
    url: str
    fps: float | None = None


def medium(kind: Kind, url: str, fps: float | None = None, *, where: str) -> Medium | Remote:
    """The medium of a data URI, of bare base64, or of an http(s) address. Raises Refusal."""
    head = url[:64].lower()
    if head.startswith(("http://", "https://")):
        return Remote(kind, url, fps)
    if head.startswith("data:"):
        described, comma, data = url.partition(",")
        mime, *options = described[5:].lower().split(";")
        if not comma or "base64" not in (option.strip() for option in options):
            raise bad_request("media_unreadable", "expected a data URI in base64", where)
        return _of(kind, mime.strip(), data, fps, where)
    # Anything else is base64 itself: a path cannot be told from it, and is none to us.
    if ":" in head:
        raise bad_request(
            "media_refused", "expected media by value, as a data URI; files are not read", where
        )
    return Medium(kind, (url,), fps)


def _of(kind: Kind, mime: str, data: str, fps: float | None, where: str) -> Medium:
    # vLLM's form of a list of frames: data:video/jpeg;base64,FIRST,SECOND,…
    if mime in ("video/jpeg", "video/png"):
        return Medium("frames", tuple(data.split(",")), fps)
    main = mime.partition("/")[0]
    # Some clients leave the type out (data:;base64,…), or say only that it is bytes.
    expected = {"picture": "image", "frames": "image", "video": "video"}[kind]
    if main not in ("", "application", expected) or mime == "application/pdf":
        raise Refusal(400, "media_type", f"expected {expected}, got another type", param=where)
    return Medium(kind, (data,), fps)
