"""Output files that appear under their names when all of them are complete, or not at all."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from quantize.codec import Bytes
from quantize.container import Layout, Placed
from quantize.errors import QuantizeError

_READ = 4 << 20
_SUFFIX = ".partial"


class GGUFOutput:
    """A GGUF under a temporary name, written in any order by any thread, hashed in file order.

    The hash follows the first byte that is not written yet. What it reads back was written a
    moment ago and is still in the page cache.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.partial = _partial(path)
        self._file = -1
        self._layout = layout
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._hashing = Lock()
        self._left = {placed.offset: placed.nbytes for placed in layout.tensors}
        self._left_lock = Lock()
        self._ends = [placed.offset for placed in layout.tensors] + [layout.size]

    def __enter__(self) -> GGUFOutput:
        """Create the file; leaving removes it unless it has been given its name."""
        try:
            _remove_abandoned(self.path)
            self._file = _create_locked(self.partial)
            os.truncate(self._file, self._layout.size)  # the padding, which nobody writes, is zero
            self._write_at(0, memoryview(self._layout.head))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close and remove what is left."""
        self.partial.unlink(missing_ok=True)
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def write(self, placed: Placed, offset: int, data: Bytes) -> None:
        """Write a part of a tensor, `offset` bytes from its start."""
        self._write_at(placed.offset + offset, data.data)
        with self._left_lock:
            self._left[placed.offset] -= data.size
            complete = self._left[placed.offset] == 0
        if complete:
            self._hash_what_is_complete()

    def finish(self) -> str:
        """Flush the file to the disk and return its SHA-256; it keeps its temporary name."""
        assert not any(self._left.values()), "a tensor was not written"
        self._hash_what_is_complete()
        assert self._hashed == self._layout.size
        os.fsync(self._file)
        return self._hash.hexdigest()

    def _write_at(self, offset: int, data: memoryview) -> None:
        try:
            while data:
                written = os.pwrite(self._file, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _hash_what_is_complete(self) -> None:
        if not self._hashing.acquire(blocking=False):
            return  # another thread is at it
        try:
            for end in self._ends:
                if end <= self._hashed:
                    continue
                if self._left.get(self._hashed, 0):
                    return
                while self._hashed < end:
                    chunk = os.pread(self._file, min(_READ, end - self._hashed), self._hashed)
                    self._hash.update(chunk)
                    self._hashed += len(chunk)
        finally:
            self._hashing.release()


def write_text(path: Path, text: str) -> Path:
    """Write `text` to a temporary file beside `path`, to the disk, and return that file."""
    partial = _partial(path)
    try:
        # A checkpoint's folder need not be named in UTF-8; in JSON it then is with an escape.
        with partial.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def publish(folder: Path, renames: Iterable[tuple[Path, Path]]) -> None:
    """Give the complete files their names: all of them, or none, and then the older ones stay.

    Two runs that end at once take turns, so that the files of one are never mixed with the
    other's.
    """
    handle = os.open(folder, os.O_RDONLY)
    older: dict[Path, Path | None] = {}
    done: list[Path] = []
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for partial, path in renames:
            older[path] = _second_name(path)
            partial.replace(path)
            done.append(path)
        os.fsync(handle)
    except BaseException:
        for path in done:
            if (before := older[path]) is not None:
                before.replace(path)
            else:
                path.unlink(missing_ok=True)
        raise
    finally:
        for before in filter(None, older.values()):
            before.unlink(missing_ok=True)
        os.close(handle)


def _second_name(path: Path) -> Path | None:
    """Another name of the file at `path`; None without a file, or where files have one only."""
    name = _partial(path)
    try:
        os.link(path, name)
    except OSError:
        return None
    return name


def check_space(folder: Path, needed: int) -> None:
    """Raise QuantizeError where the file system of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise QuantizeError(
            f"expected {needed / 2**30:.2f} GiB free at {folder}, got {free / 2**30:.2f} GiB",
            hint="free some disk space, or choose another --out folder",
        )


def _create_locked(partial: Path) -> int:
    """Create and lock a file; another run may have taken it for abandoned in between."""
    while True:
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return file
        os.close(file)


def _remove_abandoned(path: Path) -> None:
    """Remove what a run that was killed has left of `path`; a run that lives holds a lock."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*{_SUFFIX}"):
        try:
            file = os.open(partial, os.O_RDWR)
        except FileNotFoundError:
            continue  # another run has just finished it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            partial.unlink(missing_ok=True)
        finally:
            os.close(file)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_SUFFIX}")
