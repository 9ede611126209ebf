"""What a server is told when it starts: its limits, and what it says of its model."""

from __future__ import annotations

from dataclasses import dataclass, field

from miloco_edge.types import SamplingDefaults


@dataclass(frozen=True)
class Limits:
    """The most that a request may cost, whatever it asks for."""

    body_bytes: int = 32 << 20
    body_s: float = 60.0
    """Longest that a request may take to arrive."""
    header_s: float = 10.0
    """Longest that a connection may take to send the head of a request."""
    connections: int = 256
    messages: int = 256
    text_chars: int = 200_000
    """Characters of all texts of a request together."""
    media: int = 64
    """Pictures and videos of a request."""
    picture_pixels: int = 24_000_000
    frames: int = 256
    """Frames of a request's media together."""
    clip_bytes: int = 512 << 20
    """Pixels of all frames together, decoded."""
    waiting_bytes: int = 2 << 30
    """The same of all requests that are not answered yet."""
    decode_s: float = 20.0
    decode_memory_bytes: int = 4 << 30
    """Address space of the process that decodes media."""
    visual_tokens: int = 4096
    answer_tokens: int = 4096
    thinking_tokens: int = 8192
    seconds: float = 600.0
    """Longest that a request may take, waiting included."""
    rules: int = 64
    waiting: int = 16
    """Requests that wait for their turn."""
    listeners: int = 32
    """Connections that follow events."""


@dataclass(frozen=True)
class ModelFacts:
    """What the server says of its model, before and after it is loaded."""

    name: str
    aliases: tuple[str, ...] = ()
    context: int = 8192
    file_type: str = ""
    size_bytes: int = 0
    sha256: str = ""
    created: int = 0
    """When the file was made, seconds since 1970."""
    thinks: bool = True
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    here: bool = True
    """False where another server may answer, which is held to no grammar and tells no odds."""
