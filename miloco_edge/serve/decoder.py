"""Decoding in processes of its own, of which each request has one to itself."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

from miloco_edge.engine.child_process import deaf
from miloco_edge.engine.child_wire import Channel
from miloco_edge.errors import MediaError
from miloco_edge.serve.media import Medium
from miloco_edge.serve.refusal import Refusal, bad_request
from miloco_edge.serve.settings import Limits
from miloco_edge.types import Layout
from miloco_edge.video import Clip

log = logging.getLogger(__name__)

_START_S = 60.0
_REQUESTS = 200
"""After so many a process is replaced, whatever it did."""
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""Of the environment; keys and tokens stay here."""
_FFMPEG = (
    "protocol_whitelist;file"
    "|format_whitelist;mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,h264,hevc,mjpeg"
)
"""No playlist and no other file is followed; only what cameras record is demuxed."""


class Decoders:
    """A few decoding processes, begun when they are first needed and replaced when in doubt."""

    def __init__(self, limits: Limits, size: int = 2) -> None:
        self._limits = limits
        self._free: asyncio.LifoQueue[_Decoder | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)
        self._closed = False

    async def warm(self) -> None:
        """Begin a process now, so that the first request need not wait for it."""
        decoder = await self._free.get()
        if decoder is None:
            decoder = await asyncio.to_thread(_Decoder, self._limits.decode_memory_bytes)
        if self._closed:
            decoder.end()
        self._free.put_nowait(None if self._closed else decoder)

    async def clip(
        self, media: Sequence[Medium], layout: Layout = "images", fps: float | None = None
    ) -> Clip:
        """The clip that the media make; raises Refusal or MediaError."""
        message = {
            "media": [{"kind": m.kind, "data": m.data, "fps": m.fps} for m in media],
            "layout": layout,
            "fps": fps,
            "limits": {
                "frames": self._limits.frames,
                "clip_bytes": self._limits.clip_bytes,
                "picture_pixels": self._limits.picture_pixels,
            },
        }
        decoder = await self._free.get()
        work = asyncio.create_task(asyncio.to_thread(self._decode, decoder, message))
        work.add_done_callback(partial(self._give_back, decoder))
        _, outcome = await asyncio.shield(work)  # a client that leaves does not stop a decoder
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        """End the processes."""
        self._closed = True
        while not self._free.empty():
            if (decoder := self._free.get_nowait()) is not None:
                decoder.end()

    def _give_back(
        self,
        decoder: _Decoder | None,
        work: asyncio.Task[tuple[_Decoder | None, Clip | Exception]],
    ) -> None:
        if not work.cancelled():  # as it is where the loop ends before it
            decoder, _ = work.result()
        if self._closed and decoder is not None:
            decoder.end()
            decoder = None
        self._free.put_nowait(decoder)

    def _decode(
        self, decoder: _Decoder | None, message: dict[str, Any]
    ) -> tuple[_Decoder | None, Clip | Exception]:
        """In a thread: what came of it, and the process if it may be used again."""
        outcome: Clip | Exception
        try:
            decoder = decoder or _Decoder(self._limits.decode_memory_bytes)
            outcome = decoder.clip(message, self._limits.decode_s)
        except Exception as error:
            outcome = error
        if decoder is not None and (
            self._closed or not decoder.sound or decoder.served >= _REQUESTS
        ):
            decoder.end()
            decoder = None
        return decoder, outcome


class _Decoder:
    """One process."""

    def __init__(self, memory_bytes: int) -> None:
        # Videos lie in files while they are decoded. One that is killed leaves them to us.
        self._folder = tempfile.mkdtemp(prefix="miloco-edge-")
        ours, theirs = socket.socketpair()
        with theirs, deaf():
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "miloco_edge.serve.decode_main",
                 str(descriptor), str(memory_bytes)],
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={
                    **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                    "TMPDIR": self._folder,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "OPENCV_FFMPEG_CAPTURE_OPTIONS": _FFMPEG,
                    "OMP_NUM_THREADS": "1",
                },
            )  # fmt: skip
        self._channel = Channel(ours)
        self.served = 0
        self.sound = True
        """False once it did not answer: it is not to be used again."""
        self._ended = False

    def clip(self, message: dict[str, Any], seconds: float) -> Clip:
        """Decode; raises Refusal or MediaError."""
        self.served += 1
        self.sound = False
        try:
            if self.served == 1:
                self._channel.receive(_START_S)  # it is ready
            self._channel.send(message)
            reply, clip = self._channel.receive(seconds)
        except TimeoutError:
            log.warning("media took more than %.0f s to decode", seconds)
            raise bad_request(
                "media_too_slow", "expected media that can be decoded sooner"
            ) from None
        except (EOFError, OSError) as error:
            if not self._ended:
                log.warning("media ended the process that decoded them (%s)", self._process.poll())
            raise MediaError("media", "the decoder died of it") from error
        self.sound = True
        if clip is not None:
            return clip
        if reply["refused"] == "too_much":
            raise Refusal(
                413, "media_too_large", f"expected media within the server's {reply['limit']}"
            )
        raise MediaError("media", "not decodable")

    def end(self) -> None:
        """End it now, and leave nothing of what it read; from any thread."""
        self._ended = True
        self._channel.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
