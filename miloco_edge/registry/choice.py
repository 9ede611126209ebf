"""Which two files of a folder or repository are the pair: the text GGUF and its mmproj."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from miloco_edge.errors import ModelNotFoundError

DEFAULT_QUANTS = ("Q4_K_M", "Q4_0")
# An F16 vision encoder of this architecture overflows (llama.cpp#17534), so it comes last.
MMPROJ_TYPES = ("BF16", "Q8_0", "F32", "F16")
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


def is_mmproj(name: str) -> bool:
    """Whether a GGUF is a vision encoder, by the name that everyone gives it."""
    return "mmproj" in name.lower()


def has_type(name: str, kind: str) -> bool:
    """Whether the file name carries the quantization `kind`: Q4_K is not in model-Q4_K_M.gguf."""
    pattern = rf"(?<![A-Za-z0-9]){re.escape(kind)}(?![A-Za-z0-9])(?!_[A-Za-z0-9])"
    return re.search(pattern, name, re.IGNORECASE) is not None


def choose_text(ref: str, names: Iterable[str], quant: str | None = None) -> str:
    """The text model among `names`: the one of `quant`, else the default quantizations.

    Raises ModelNotFoundError, with the candidates, where that is not exactly one file.
    """
    texts = sorted(name for name in names if name.endswith(".gguf") and not is_mmproj(name))
    whole = [name for name in texts if not _PART.search(name)]
    if texts and not whole:
        raise ModelNotFoundError(
            ref, f"{ref}: expected a text model in one file, got parts: {texts[0]} …",
            hint="join the parts with `llama-gguf-split --merge` and give the file",
        )  # fmt: skip
    if quant is not None:
        return the_only(ref, [name for name in whole if has_type(name, quant)], whole, quant)
    if len(whole) > 1:
        for kind in DEFAULT_QUANTS:
            typed = [name for name in whole if has_type(name, kind)]
            if len(typed) == 1:
                return typed[0]
    return the_only(ref, whole, whole, "text model")


def choose_mmproj(ref: str, names: Iterable[str]) -> str:
    """The vision encoder among `names`, of the type that computes best where there are several.

    Raises ModelNotFoundError where there is none, or where the names do not tell them apart.
    """
    encoders = sorted(name for name in names if name.endswith(".gguf") and is_mmproj(name))
    if len(encoders) > 1:
        for kind in MMPROJ_TYPES:
            typed = [name for name in encoders if has_type(name, kind)]
            if len(typed) == 1:
                return typed[0]
    return the_only(ref, encoders, encoders, "mmproj")


def the_only(ref: str, found: Sequence[str], all_names: Sequence[str], wanted: str) -> str:
    """The one name in `found`. Raises ModelNotFoundError, with the candidates, where it is not."""
    if len(found) == 1:
        return found[0]
    candidates = ", ".join(found or all_names) or "none"
    how = "give --mmproj FILE" if wanted == "mmproj" else "give the file itself, or REPO:QUANT"
    raise ModelNotFoundError(ref, f"{ref}: expected one {wanted}, got {candidates}", hint=how)
