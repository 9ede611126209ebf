"""Which types are fast on which device, so that a pair that fits a size is not a slow one.

What recipes/edge knows of a device, as sets. Weights of the language model may be repacked for the
CPU, those of the mmproj never are, so each file has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantize.codec import Type, block_size, row_bytes
from quantize.names import File

CANDIDATES = tuple(type for type in Type if type not in {Type.F32, Type.F16})
"""What a weight may become. Not F32, which is never smaller than the source, nor F16, in which this
architecture overflows (https://github.com/ggml-org/llama.cpp/issues/17534)."""

SLOW = 0.5
"""A type is refused that reaches less than this of the fastest one of comparable bits."""


@dataclass(frozen=True)
class Refusal:
    """A type that was not considered for a file, and why."""

    file: File
    type: str
    reason: str


@dataclass(frozen=True)
class Device:
    """What a pair is made for."""

    name: str
    allowed: Mapping[File, frozenset[Type]]
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class Speed:
    """Multiplications and additions a second, in any unit: with many columns, and with one."""

    prefill: float
    decode: float


def _device(name: str, text: str, mmproj: str, reason: str) -> Device:
    """A device as recipes/edge/edge-NAME.toml describes it."""
    allowed: dict[File, frozenset[Type]] = {
        "text": frozenset(Type[type] for type in text.split()),
        "mmproj": frozenset(Type[type] for type in mmproj.split()),
    }
    refused = tuple(
        Refusal(file, type.name, reason)
        for file, types in allowed.items()
        for type in CANDIDATES
        if type not in types
    )
    return Device(name, allowed, refused)


_TILED = "Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS BF16"
_ALL = " ".join(type.name for type in CANDIDATES)

ANY = _device("any", _ALL, _ALL, "")

DEVICES = {
    device.name: device
    for device in (
        _device(  # IQ3 types prefill as fast, and decode at a quarter of Q4_K's rate
            "x86", _TILED, f"{_TILED} IQ3_XXS IQ3_S", "slower than types of its bits (edge-x86)"
        ),
        _device(
            "arm", "Q4_0 Q4_K Q5_K Q6_K Q8_0 IQ4_NL", "Q4_0 Q8_0",
            "neither repacked nor tinyBLAS kernels (edge-arm)",
        ),
        _device(
            "cuda", _ALL, "Q3_K Q5_0 Q6_K Q8_0 IQ3_XXS IQ3_S IQ4_NL IQ4_XS BF16",
            "its kernel holds sums of inputs in FP16 (edge-cuda)",
        ),
        _device("metal", _ALL, "BF16", "its kernel holds inputs in FP16 (edge-metal)"),
    )
}  # fmt: skip
"""By the names that users type. From kernel tables: only x86 has been measured."""


def measured(name: str, speeds: Mapping[File, Mapping[str, Speed]]) -> Device:
    """Allow the types that are not slow, by the speeds that were measured for each file.

    With many columns a type is compared with all that have half to twice its bits per weight; with
    one, where fewer bytes are faster by nature, with those that have as many bits to twice as many.
    An mmproj never multiplies by one column. Types without a speed are refused.
    """
    allowed: dict[File, frozenset[Type]] = {}
    refused: list[Refusal] = []
    for file, by_name in speeds.items():
        known = {Type[type]: speed for type, speed in by_name.items()}
        reasons = {type: _reason(type, known, file) for type in CANDIDATES}
        allowed[file] = frozenset(type for type, reason in reasons.items() if reason is None)
        refused += (Refusal(file, type.name, why) for type, why in reasons.items() if why)
    return Device(name, allowed, tuple(refused))


def _reason(type: Type, speeds: Mapping[Type, Speed], file: File) -> str | None:
    """Why a type is refused, None where it is not."""
    if type not in speeds:
        return "not measured"
    bits = bits_per_weight(type)

    def slower(what: str, least: float) -> str | None:
        near = [t for t in speeds if least * bits <= bits_per_weight(t) <= 2 * bits]
        fastest = max(near, key=lambda t: float(getattr(speeds[t], what)))
        mine, best = getattr(speeds[type], what), getattr(speeds[fastest], what)
        if mine >= SLOW * best:
            return None
        return f"{what} {mine:.3g}, where {fastest.name} reaches {best:.3g} GMAC/s"

    return slower("prefill", 0.5) or (slower("decode", 1.0) if file == "text" else None)


def bits_per_weight(type: Type) -> float:
    """Bits that a weight takes, scales included."""
    return 8 * row_bytes(type, block_size(type)) / block_size(type)
