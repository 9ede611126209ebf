"""The one table from an exception to what the user reads and the exit code."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from miloco_edge import errors
from quantize import errors as quantize_errors

DONE, FAILED, USAGE, NOT_FOUND, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True)
class Report:
    """A failure as the user sees it."""

    exit_code: int
    message: str
    hint: str | None


def _with_hint(exit_code: int) -> Callable[[Exception], Report]:
    return lambda error: Report(exit_code, str(error), getattr(error, "hint", None))


def _os_error(error: Exception) -> Report:
    assert isinstance(error, OSError)
    reason = error.strerror or str(error)
    message = f"{error.filename}: {reason}" if error.filename else reason
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return Report(FAILED, message, "free some disk space, or write to another disk")
        case errno.ENOENT:
            return Report(NOT_FOUND, message, "check the path")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Report(FAILED, message, "check who may read or write there")
        case errno.EEXIST | errno.EISDIR | errno.ENOTDIR:
            return Report(FAILED, message, "choose another path")
        case errno.EIO:
            return Report(FAILED, message, "check the disk, or choose another")
        case errno.EADDRINUSE:
            return Report(FAILED, message, "choose another port, or end what listens there")
        case _:
            return Report(FAILED, message, None)


# Ordered: the first type that matches wins.
TABLE: tuple[tuple[type[Exception], Callable[[Exception], Report]], ...] = (
    (errors.NotFoundError, _with_hint(NOT_FOUND)),
    (errors.RefusedError, _with_hint(REFUSED)),
    (errors.MilocoEdgeError, _with_hint(FAILED)),
    (quantize_errors.NotFoundError, _with_hint(NOT_FOUND)),
    (quantize_errors.RefusedError, _with_hint(REFUSED)),
    (quantize_errors.QuantizeError, _with_hint(FAILED)),
    (OSError, _os_error),
)


def report(error: Exception) -> Report | None:
    """How the user reads `error`, or None where it is not one of ours."""
    for kind, make in TABLE:
        if isinstance(error, kind):
            return make(error)
    return None
