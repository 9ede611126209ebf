"""What can go wrong, as one tree.

    MilocoEdgeError
    ├── NotFoundError            a file, model or camera that is not there (exit code 3)
    │   ├── MediaNotFoundError
    │   └── ModelNotFoundError
    ├── RefusedError             input that is corrupt, hostile or incompatible (exit code 4)
    │   ├── MediaError
    │   ├── GGUFError
    │   ├── ManifestError
    │   ├── ConfigError
    │   └── ModelMismatchError
    └── EngineError              the model was loaded and could not go on (exit code 1)
        ├── ModelLoadError
        ├── ContextFullError
        ├── NonFiniteError
        ├── EngineDownError
        ├── QuarantinedError
        ├── BusyError
        └── ClosedError

Every error says what was expected and what was got in its message, the next thing to do in its
`hint`, and carries the values it speaks of as attributes. Catch the base class to catch them all:

    try:
        engine = Engine.load("model.gguf")
    except MilocoEdgeError as error:
        print(error, error.hint)
"""

from __future__ import annotations

from pathlib import Path


class MilocoEdgeError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotFoundError(MilocoEdgeError):
    """A file, a model or a camera is not where it was said to be."""


class MediaNotFoundError(NotFoundError):
    """The picture, clip or folder does not exist."""

    def __init__(self, path: Path | str, *, hint: str | None = None) -> None:
        super().__init__(f"expected a picture, clip or folder at {path}, found nothing", hint=hint)
        self.path = path


class ModelNotFoundError(NotFoundError):
    """No model answers to the reference (or it is not in the cache while offline)."""

    def __init__(self, ref: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.ref = ref


class RefusedError(MilocoEdgeError):
    """The input exists and is not used: corrupt, hostile or incompatible."""


class MediaError(RefusedError):
    """The media cannot be decoded, has no picture in it, or is out of bounds."""

    def __init__(self, source: Path | str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.source = source


class GGUFError(RefusedError):
    """The file is not a sound GGUF: wrong magic, cut short, or a field out of bounds."""

    def __init__(self, path: Path, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path.name}: {message}", hint=hint)
        self.path = path


class ManifestError(RefusedError):
    """A line of questions to evaluate with, or of a data set, is not what it should be."""

    def __init__(
        self, path: Path, line: int | None, message: str, *, hint: str | None = None
    ) -> None:
        where = f"{path}, line {line}" if line is not None else str(path)
        super().__init__(f"{where}: {message}", hint=hint)
        self.path = path
        self.line = line


class ConfigError(RefusedError):
    """A line of a home's configuration is not what it should be."""

    def __init__(
        self,
        path: Path,
        line: int | None,
        field: str | None,
        message: str,
        *,
        hint: str | None = None,
    ) -> None:
        where = f"{path}, line {line}" if line is not None else str(path)
        super().__init__(f"{where}: {f'{field}: ' if field else ''}{message}", hint=hint)
        self.path = path
        self.line = line
        self.field = field


class ModelMismatchError(RefusedError):
    """Sound files that do not belong together, or are of an architecture that is not served."""

    def __init__(self, path: Path, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path.name}: {message}", hint=hint)
        self.path = path


class EngineError(MilocoEdgeError):
    """The engine could not go on with this request; others may still succeed."""


class ModelLoadError(EngineError):
    """llama.cpp refused to load files that had passed our own checks."""


class ContextFullError(EngineError):
    """The request needs more KV cells, or sequences, than the context has left."""

    def __init__(
        self, needed: int, available: int, *, of: str = "tokens", hint: str | None = None
    ) -> None:
        super().__init__(
            f"expected at most {available} more {of} in the context, got {needed}", hint=hint
        )
        self.needed = needed
        self.available = available


class NonFiniteError(EngineError):
    """The model computed NaN or infinity: its weights are damaged, or a kernel overflowed."""

    def __init__(self, stage: str) -> None:
        super().__init__(
            f"expected finite values from the {stage}, got NaN or infinity",
            hint="check the files with `miloco-edge show REF --verify`; "
            "an F16 mmproj is known to overflow, BF16 does not",
        )
        self.stage = stage


class EngineDownError(EngineError):
    """The process or server that holds the model died, hung or cannot be reached."""

    def __init__(self, cause: str, *, hint: str | None = None) -> None:
        super().__init__(f"expected an answer from the engine, got none: {cause}", hint=hint)
        self.cause = cause


class QuarantinedError(EngineError):
    """The clip brought the engine down more than once, and is not shown to it again."""


class BusyError(EngineError):
    """More is waiting than may wait; ask again after `retry_after_s`."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(
            f"expected fewer than {waiting} questions to wait, got one more",
            hint=f"ask again in {retry_after_s:.0f} s",
        )
        self.waiting = waiting
        self.retry_after_s = retry_after_s


class ClosedError(EngineError):
    """The engine or scene was closed before the call."""
