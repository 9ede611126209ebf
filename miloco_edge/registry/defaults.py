"""What a GGUF does not carry, read from a table: a manifest's, a card's, or nothing at all.

Absent and null fields keep transformers' defaults for the architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from miloco_edge.errors import ModelMismatchError
from miloco_edge.types import Calibration, Preprocessor, SamplingDefaults

HINT = "correct the file, or remove it to use the model's defaults"


def preprocessor_from(table: object, where: Path, default: Preprocessor) -> Preprocessor:
    """`default` with what `table`, read from the file `where`, says.

    Its fields have the names of Hugging Face's processors: min_pixels and max_pixels of a picture,
    and with video_ before them of a video's frame; fps, min_frames and max_frames of a video,
    tokens_per_second of the positions. Raises ModelMismatchError where a value is not a sensible
    one.
    """
    given = _given(table, where)
    fields: dict[str, Any] = {}
    for name in ("min_frames", "max_frames"):
        if name in given:
            fields[name] = int(_positive(given[name], name, where, int))
    for name in ("fps", "tokens_per_second"):
        if name in given:
            fields[name] = float(_positive(given[name], name, where, int, float))
    fields["image_pixels"] = _limits(given, "", default.image_pixels, where)
    fields["video_pixels"] = _limits(given, "video_", default.video_pixels, where)
    return replace(default, **fields)


def _limits(
    given: Mapping[str, Any], prefix: str, default: tuple[int, int], where: Path
) -> tuple[int, int]:
    low, high = (
        int(_positive(given.get(name, value), name, where, int))
        for name, value in zip((f"{prefix}min_pixels", f"{prefix}max_pixels"), default, strict=True)
    )
    if low > high:
        raise ModelMismatchError(
            where,
            f"expected {prefix}min_pixels below {prefix}max_pixels, got {low} and {high}",
            hint=HINT,
        )
    return low, high


def sampling_from(table: object, where: Path, default: SamplingDefaults) -> SamplingDefaults:
    """`default` with the fields that `table` gives by name. Raises ModelMismatchError."""
    given = _given(table, where)
    fields: dict[str, float] = {}
    for name, high in (("temperature", 2.0), ("top_p", 1.0)):
        if name not in given:
            continue
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
            raise ModelMismatchError(
                where, f"{name}: expected 0 to {high:g}, got {value!r}", hint=HINT
            )
        fields[name] = float(value)
    return replace(default, **fields)


def calibration_from(table: object, where: Path, default: Calibration) -> Calibration:
    """`default` with `a` and `b` of the table `p_yes`. Raises ModelMismatchError."""
    given = _given(table, where)
    fields: dict[str, float] = {}
    for name in ("a", "b"):
        if name not in given:
            continue
        value = given[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= 1000:
            raise ModelMismatchError(
                where, f"p_yes.{name}: expected -1000 to 1000, got {value!r}", hint=HINT
            )
        fields[name] = float(value)
    return replace(default, **fields)


def _given(table: object, where: Path) -> Mapping[str, Any]:
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise ModelMismatchError(where, f"expected a table, got {table!r}", hint=HINT)
    return {name: value for name, value in table.items() if value is not None}


def _positive(value: object, name: str, where: Path, *kinds: type) -> int | float:
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < 1 << 31:  # type: ignore[operator]
        raise ModelMismatchError(
            where, f"{name}: expected a positive number, got {value!r}", hint=HINT
        )
    return value  # type: ignore[return-value]
