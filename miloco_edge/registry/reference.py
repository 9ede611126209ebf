"""What the user may write where a model is asked for.

    alias[:QUANT]        miloco-7b, qwen2.5-vl-7b:Q8_0 (models/*.toml)
    FILE.gguf            the text model; its mmproj lies beside it
    FOLDER               one pair in it
    org/repo[:QUANT]     a repository on the hub, once it has been pulled

An alias wins over a folder of the same name (write ./name for the folder); a path that exists
wins over a repository.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from miloco_edge.errors import ModelNotFoundError
from miloco_edge.registry.cards import Card, card_of_repo, load_cards

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_QUANT = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Reference:
    """A model reference, taken apart. Exactly one of `path` and `repo` is set."""

    written: str
    path: Path | None = None
    repo: str | None = None
    quant: str | None = None
    card: Card | None = None


def parse(ref: str | Path) -> Reference:
    """Take `ref` apart.

    Raises ModelNotFoundError where it is nothing that a model can be.
    """
    written = str(ref)
    if isinstance(ref, Path):
        return Reference(written, path=ref)
    if re.match(r"https?://", written):
        raise ModelNotFoundError(
            written,
            f"expected a model on this machine, got {written}",
            hint="`watch` and `serve` ask servers; here, give an alias, a .gguf or a folder",
        )
    cards = load_cards()
    head, _, quant = written.partition(":")
    quant_or_none = quant or None
    if head in cards and (not quant or _QUANT.fullmatch(quant)):
        card = cards[head]
        if card.folder is not None and not quant:
            return Reference(written, path=card.folder, card=card)
        if card.repo is not None:
            return Reference(written, repo=card.repo, quant=quant_or_none, card=card)
    path = Path(written).expanduser()
    if (
        (written and path.exists())
        or written.endswith(".gguf")
        or written.startswith((".", "/", "~"))
    ):
        return Reference(written, path=path)
    if _REPO.fullmatch(head) and (not quant or _QUANT.fullmatch(quant)):
        return Reference(written, repo=head, quant=quant_or_none, card=card_of_repo(head))
    near = difflib.get_close_matches(head, cards, n=3)
    raise ModelNotFoundError(
        written,
        f"expected a model's alias, file, folder or org/repo, got {written!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else f"aliases: {', '.join(cards)}",
    )
