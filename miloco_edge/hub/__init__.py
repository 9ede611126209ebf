"""Cameras, windows, the gate, rules, the scheduler and events. Knows an engine by its protocol.

    from miloco_edge.hub import Hub

    with Hub.from_config("home.toml") as hub:
        hub.on_event(lambda event: print(event.document()))

Imported when it is first used: rules, settings and the journal alone need no engine.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miloco_edge.hub.hub import Hub as Hub

__all__ = ["Hub"]


def __getattr__(name: str) -> Any:
    if name != "Hub":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from miloco_edge.hub.hub import Hub

    return Hub
