"""What passes between the hub's process and the engine's: JSON messages, and frames in memory.

Both ends hold a Unix stream socket. A message is a length (4 bytes, big endian) and that much JSON.
The frames of a clip travel as a descriptor of anonymous memory beside their message (SCM_RIGHTS):
nothing has a name, so nothing is left behind by a process that was killed, and the memory goes when
the last of the two ends lets go of it. Nothing here is a pickle.
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
import select
import socket
import struct
import tempfile
import threading
import time
import types
from collections import deque
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from miloco_edge import errors
from miloco_edge.video import Clip, Frame

T = TypeVar("T")

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")
_MOST_BYTES = 64 << 20
"""No message of ours comes near it; a peer that says so has lost its mind."""


class Channel:
    """One end of the socket. Any thread may send; one receives."""

    def __init__(self, peer: socket.socket, *, send_s: int = 0) -> None:
        """`send_s` is the longest that a part of a message waits for room; 0 is for ever."""
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", send_s, 0))
        self._socket = peer
        self._sending = threading.Lock()
        self._arrival = select.poll()
        self._arrival.register(peer, select.POLLIN)
        self._bytes = bytearray()
        self._descriptors: deque[int] = deque()

    def send(self, message: Message, clip: Clip | None = None) -> None:
        """Send a message, with the frames of a clip; OSError where the other end is gone.

        Raises EngineError where there is no memory for the frames, TypeError for what is not JSON.
        """
        try:
            held = None if clip is None else _hold(clip)
        except OSError as error:
            raise errors.EngineError(f"expected memory for a clip's frames, got {error}") from error
        if clip is not None:
            message = {**message, "clip": _describe(clip)}
        try:
            body = json.dumps(message, ensure_ascii=False).encode()
            data = _LENGTH.pack(len(body)) + body
            with self._sending:
                if held is not None:
                    sent = socket.send_fds(self._socket, [data], [held])
                    data = data[sent:]
                self._socket.sendall(data)
        finally:
            if held is not None:
                os.close(held)

    def receive(self, timeout: float | None = None) -> tuple[Message, Clip | None]:
        """The next message; EOFError where the other end is gone, TimeoutError after `timeout`."""
        end = None if timeout is None else time.monotonic() + timeout
        length: int = _LENGTH.unpack(self._take(_LENGTH.size, end, peek=True))[0]
        body = self._take(_LENGTH.size + length, end)
        message: Message = json.loads(body[_LENGTH.size :])
        described = message.pop("clip", None)
        clip = None if described is None else _map(described, self._descriptors.popleft())
        return message, clip

    def close(self) -> None:
        """Hang up; a thread that receives gets EOFError. A second call does nothing."""
        with contextlib.suppress(OSError):  # the other end hung up first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _take(self, count: int, end: float | None, *, peek: bool = False) -> bytes:
        if count > _MOST_BYTES:
            raise EOFError(f"expected a message of at most {_MOST_BYTES} bytes, got {count}")
        while len(self._bytes) < count:
            left = None if end is None else max(0.0, end - time.monotonic()) * 1000
            try:
                if not self._arrival.poll(left):
                    raise TimeoutError("nothing was said in time")
                data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, 8)
            except TimeoutError:
                raise
            except OSError as error:
                raise EOFError(str(error)) from error
            self._descriptors.extend(descriptors)
            if not data:
                raise EOFError("the other end hung up")
            self._bytes += data
        taken = bytes(self._bytes[:count])
        if not peek:
            del self._bytes[:count]
        return taken


def to_plain(value: Any) -> Any:
    """A dataclass as JSON holds it."""
    return asdict(value)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Parsed once: it costs a message more than all else here."""
    return get_type_hints(kind)


def from_plain(kind: Any, value: Any) -> Any:
    """A value of type `kind` from what `to_plain` and JSON made of it.

    Knows dataclasses, tuples, dicts, optional types and JSON's own. Fields that are absent keep
    their defaults; unknown ones are a TypeError.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (kind,) = (each for each in arguments if each is not type(None))
        return from_plain(kind, value)
    if is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
        known = {field.name for field in fields(kind)}
        if unknown := set(value) - known:
            raise TypeError(f"{kind}: expected fields of {sorted(known)}, got {sorted(unknown)}")
        return kind(**{name: from_plain(hints[name], each) for name, each in value.items()})  # type: ignore[operator]
    if origin is tuple:
        if arguments[-1:] == (Ellipsis,):
            return tuple(from_plain(arguments[0], each) for each in value)
        return tuple(from_plain(k, each) for k, each in zip(arguments, value, strict=True))
    if origin is dict or origin is Literal:
        return value
    if kind is float and isinstance(value, int):
        return float(value)
    return value


def error_to_plain(error: BaseException) -> Message:
    """An error as a message: one of ours keeps its class and what it carries."""
    ours = isinstance(error, errors.MilocoEdgeError)
    carried = {
        name: value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
        for name, value in vars(error).items()
        if name != "hint"
    }
    return {
        "type": type(error).__name__ if ours else "EngineError",
        "message": str(error) if ours else f"{type(error).__name__}: {error}",
        "hint": getattr(error, "hint", None),
        "carried": carried if ours else {},
    }


def error_from_plain(plain: Message) -> errors.MilocoEdgeError:
    """The error that `error_to_plain` described; of a class of `miloco_edge.errors` alone."""
    kind = getattr(errors, plain["type"], errors.EngineError)
    if not (isinstance(kind, type) and issubclass(kind, errors.MilocoEdgeError)):
        kind = errors.EngineError
    error = kind.__new__(kind)
    errors.MilocoEdgeError.__init__(error, plain["message"], hint=plain["hint"])
    vars(error).update(plain["carried"])
    return error


def _describe(clip: Clip) -> Message:
    return {
        "sizes": [frame.size for frame in clip.frames],
        "times_s": clip.times_s,
        "fps": clip.fps,
        "source": clip.source,
        "layout": clip.layout,
    }


def _hold(clip: Clip) -> int:
    """A descriptor of memory with the pixels of all frames, one after another."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("miloco-edge frames", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        # Written, not mapped and filled: that costs a page fault every 4 KiB, and twice the time.
        with open(descriptor, "wb", closefd=False) as memory:
            for frame in clip.frames:
                memory.write(np.ascontiguousarray(frame.pixels).data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _map(described: Message, descriptor: int) -> Clip:
    """The clip, its frames views of the memory that the other end filled; private if written to."""
    try:
        memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size, access=mmap.ACCESS_COPY)
    finally:
        os.close(descriptor)
    frames, offset = [], 0
    for (width, height), time_s in zip(described["sizes"], described["times_s"], strict=True):
        pixels = np.frombuffer(memory, np.uint8, height * width * 3, offset)
        frames.append(Frame(pixels.reshape(height, width, 3), time_s))
        offset += height * width * 3
    return Clip(tuple(frames), described["fps"], described["source"], described["layout"])
