"""Ask your cameras questions; the vision-language model that answers never leaves the house.

    from miloco_edge import Engine, Clip, Budget

    with Engine.load("demo") as engine:
        clip = Clip.from_file("clip.mp4", fps=2)
        with engine.look(clip, budget=Budget(visual_tokens=512, seconds=5)) as scene:
            print(scene.ask("What is the person doing?").text)

Names are imported when they are first used: importing the package loads neither llama.cpp nor
OpenCV.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miloco_edge.engine import AnswerStream as AnswerStream
    from miloco_edge.engine import AsyncEngine as AsyncEngine
    from miloco_edge.engine import AsyncScene as AsyncScene
    from miloco_edge.engine import Economy as Economy
    from miloco_edge.engine import Engine as Engine
    from miloco_edge.engine import Intent as Intent
    from miloco_edge.engine import Scene as Scene
    from miloco_edge.errors import MilocoEdgeError as MilocoEdgeError
    from miloco_edge.hub import Hub as Hub
    from miloco_edge.prompt import Piece as Piece
    from miloco_edge.prompt import Turn as Turn
    from miloco_edge.types import Answer as Answer
    from miloco_edge.types import Box as Box
    from miloco_edge.types import Budget as Budget
    from miloco_edge.types import Decision as Decision
    from miloco_edge.types import Point as Point
    from miloco_edge.types import Sampling as Sampling
    from miloco_edge.types import Span as Span
    from miloco_edge.types import Timings as Timings
    from miloco_edge.types import Usage as Usage
    from miloco_edge.video import Clip as Clip
    from miloco_edge.video import Frame as Frame

_ROOMS = {
    "engine": (
        "AnswerStream",
        "AsyncEngine",
        "AsyncScene",
        "Economy",
        "Engine",
        "Intent",
        "Scene",
    ),
    "errors": ("MilocoEdgeError",),
    "hub": ("Hub",),
    "prompt": ("Piece", "Turn"),
    "types": (
        "Answer",
        "Box",
        "Budget",
        "Decision",
        "Point",
        "Sampling",
        "Span",
        "Timings",
        "Usage",
    ),
    "video": ("Clip", "Frame"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
