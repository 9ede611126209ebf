"""Still pictures and animations, read with Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from miloco_edge.errors import MediaError
from miloco_edge.types import RGB
from miloco_edge.video.sample import FloatArray

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is read as a picture. Pillow knows more, some by running other programs."""

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
)

MAX_PIXELS = 89_478_485
"""Most pixels of a picture or a frame: 256 MiB of RGB, Pillow's own limit."""

MAX_ANIMATION_FRAMES = 10_000

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of an EXIF orientation upright. Pillow's own way writes all tags anew, and
fails at a single one that a camera wrote wrongly."""


def is_picture(path: Path) -> bool:
    """Whether to read the file as a picture: by its content, else by its name."""
    try:
        with Image.open(path, formats=FORMATS):
            # A raw stream of JPEGs is a video, though it begins as a picture does.
            return path.suffix.lower() not in (".mjpeg", ".mjpg")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return True
    except (OSError, ValueError, SyntaxError):
        return path.suffix.lower() in SUFFIXES


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) of a picture or animation, as stored. Raises `MediaError`."""
    with _opened(path) as image:
        return image.size


def read_picture(path: Path) -> RGB:
    """The picture, upright (EXIF), in RGB, on white where it is transparent.

    16-bit grey is scaled to 8; the first page or frame of several is taken.
    Returns (h, w, 3) uint8. Raises `MediaError`.
    """
    with _opened(path) as image:
        return _rgb(image, path)


def decode_picture(data: bytes, source: str) -> RGB:
    """The picture in `data`, as `read_picture` gives it; `source` names it in a `MediaError`."""
    with _opened(source, data) as image:
        return _rgb(image, source)


def animation_times(path: Path) -> FloatArray | None:
    """When each frame of an animated GIF, WebP, PNG or AVIF is shown; None for a still.

    Returns (n,) float64, seconds from 0. A frame that states no duration lasts 0.1 s, as
    browsers have it. Raises `MediaError`.
    """
    with _opened(path) as image:
        count = getattr(image, "n_frames", 1)
        if (
            count == 1
            or not getattr(image, "is_animated", False)
            or image.format in ("TIFF", "MPO")
        ):
            return None
        if count > MAX_ANIMATION_FRAMES:
            raise MediaError(
                path, f"{path.name}: expected at most {MAX_ANIMATION_FRAMES} frames, got {count}"
            )
        durations = []
        for index in range(count):
            image.seek(index)
            image.load()
            durations.append(float(image.info.get("duration") or 100.0))
    return np.concatenate([[0.0], np.cumsum(durations[:-1])]) / 1000.0


def read_animation(path: Path, indices: Sequence[int]) -> Iterator[RGB]:
    """The frames at ascending `indices`, each (h, w, 3) uint8. Raises `MediaError`."""
    with _opened(path) as image:
        for index in indices:
            image.seek(index)
            yield _rgb(image, path)


@contextmanager
def _opened(path: Path | str, data: bytes | None = None) -> Iterator[Image.Image]:
    """A Pillow picture whose failures, now or while it is read, are `MediaError`."""
    name = path.name if isinstance(path, Path) else path
    try:
        with Image.open(path if data is None else io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_large(path, f"{width}x{height}")
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "more") from error
    except PermissionError as error:
        raise MediaError(
            path,
            f"{name}: expected a picture that may be read, got: {error.strerror}",
            hint="check who may read the file",
        ) from error
    except UnidentifiedImageError as error:
        raise MediaError(
            path,
            f"{name}: expected a picture, got something else",
            hint=f"the file is damaged, or none of {', '.join(FORMATS)}",
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError) as error:
        raise MediaError(
            path,
            f"{name}: expected a whole picture, got: {error or 'its end'}",
            hint="the file is cut short or damaged; save it again, as JPEG or PNG",
        ) from error


def _too_large(path: Path | str, got: str) -> MediaError:
    name = path.name if isinstance(path, Path) else path
    return MediaError(
        path,
        f"{name}: expected at most {MAX_PIXELS} pixels, got {got}",
        hint="make the picture smaller first; the model sees at most a few million pixels",
    )


def _rgb(image: Image.Image, path: Path | str) -> RGB:
    image.load()
    turn = _TURN.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        deep = np.asarray(upright)
        if deep.dtype == np.float32 or deep.min() < 0 or deep.max() > 0xFFFF:
            raise MediaError(
                path,
                f"{path}: expected 8 or 16 bits a channel, got {upright.mode}",
                hint="save it as an 8-bit JPEG or PNG",
            )
        grey = (deep >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(page, layer)
    return np.array(upright.convert("RGB"))
