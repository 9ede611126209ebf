"""Commands that need libraries which are not installed by default."""

from __future__ import annotations

from miloco_edge.errors import MilocoEdgeError


def missing(extra: str, package: str | None) -> MilocoEdgeError:
    """What is said where an extra is wanted and its package is not there."""
    return MilocoEdgeError(
        f"expected the extra {extra}, got none of {package}",
        hint=f"pip install 'miloco-edge[{extra}]'",
    )
