"""llama.cpp's library as the rest of the room uses it: log forwarding and the abort flag."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from typing import Any

import llama_cpp
from llama_cpp import mtmd_cpp

logger = logging.getLogger("miloco_edge.llama")

# ggml_log_level (ggml.h). CONT continues the line before it.
_WARN, _ERROR, _CONT = 3, 4, 5


class _LogForwarder:
    """Turns llama.cpp's fragments into lines of the package's logger, at DEBUG or INFO.

    llama.cpp prints hundreds of lines a load, and calls a computation that we stopped an error.
    What really failed is raised by the caller, with the last error line: a failed load returns
    NULL and says why only in its log.
    """

    def __init__(self) -> None:
        self._level = 0
        self._line = ""
        self._lock = threading.Lock()
        self.last_error = ""

    def __call__(self, level: int, text: bytes, _: Any) -> None:
        with self._lock:
            if level != _CONT:
                self._level = level
            self._line += text.decode("utf-8", "replace")
            *lines, self._line = self._line.split("\n")
        for line in lines:
            if self._level == _ERROR:
                self.last_error = line
            logger.log(logging.INFO if self._level >= _WARN else logging.DEBUG, "%s", line)


_forwarder = _LogForwarder()
# Kept for the life of the process: llama.cpp holds the bare address.
_log_callback = llama_cpp.llama_log_callback(_forwarder)
_started = threading.Lock()
_backend_ready = False


def start_backend() -> None:
    """Initialise llama.cpp once and send its log to `logging`. Called when a model is loaded.

    The log callbacks are process-wide (llama.h, llama_log_set), so they are not set at import.
    """
    global _backend_ready
    with _started:
        if _backend_ready:
            return
        llama_cpp.llama_log_set(_log_callback, ctypes.c_void_p(0))
        mtmd_cpp.mtmd_log_set(_log_callback, ctypes.c_void_p(0))
        mtmd_cpp.mtmd_helper_log_set(_log_callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        _backend_ready = True


def take_last_error() -> str:
    """The newest error line that llama.cpp logged, cleared by reading it."""
    line, _forwarder.last_error = _forwarder.last_error, ""
    return line


def system_info() -> str:
    """Kernels and CPU features of this build of llama.cpp."""
    info: bytes = llama_cpp.llama_print_system_info()
    return info.decode().strip()


class AbortFlag:
    """A flag that llama.cpp polls between graph nodes without taking Python's lock.

    The abort callback is asked about a thousand times a token. A Python callback would need the
    interpreter's lock each time and could wait 5 ms for it whenever another thread computes, so
    the callback is C's strlen and the flag a string: empty means go on, one byte means stop.
    ggml reads the result as a C bool, that is the lowest byte of the length. Works on the CPU
    backend only (llama.h, abort_callback); on a GPU the caller's checks between slices decide.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        libc = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
        self.callback = ctypes.cast(libc.strlen, llama_cpp.ggml_abort_callback)
        self.data = ctypes.cast(self._text, ctypes.c_void_p)

    def set(self) -> None:
        """Stop the computation that is running, from any thread."""
        self._text[0] = b"\x01"

    def clear(self) -> None:
        """Let the next computation run."""
        self._text[0] = b"\x00"

    def is_set(self) -> bool:
        """Whether a stop was asked for since the last `clear`."""
        return self._text[0] != b"\x00"
