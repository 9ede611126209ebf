"""Ask your cameras questions; the vision-language model that answers never leaves the house.

    from miloco_edge import Engine, Clip, Budget

    with Engine.load("demo") as engine:
        clip = Clip.from_file("clip.mp4", fps=2)
        with engine.look(clip, budget=Budget(visual_tokens=512, seconds=5)) as scene:
            print(scene.ask("What is the person doing?").text)
"""

from miloco_edge.engine import AnswerStream as AnswerStream
from miloco_edge.engine import AsyncEngine as AsyncEngine
from miloco_edge.engine import AsyncScene as AsyncScene
from miloco_edge.engine import Engine as Engine
from miloco_edge.engine import Scene as Scene
from miloco_edge.errors import MilocoEdgeError as MilocoEdgeError
from miloco_edge.llama import Sampling as Sampling
from miloco_edge.prompt import Turn as Turn
from miloco_edge.types import Answer as Answer
from miloco_edge.types import Box as Box
from miloco_edge.types import Budget as Budget
from miloco_edge.types import Point as Point
from miloco_edge.types import Span as Span
from miloco_edge.types import Timings as Timings
from miloco_edge.types import Usage as Usage
from miloco_edge.video import Clip as Clip
from miloco_edge.video import Frame as Frame

__all__ = [
    "Answer",
    "AnswerStream",
    "AsyncEngine",
    "AsyncScene",
    "Box",
    "Budget",
    "Clip",
    "Engine",
    "Frame",
    "MilocoEdgeError",
    "Point",
    "Sampling",
    "Scene",
    "Span",
    "Timings",
    "Turn",
    "Usage",
]
