"""Load a model, look at a clip, ask: locally, in one thread, within a budget."""

from miloco_edge.engine.aio import AsyncEngine as AsyncEngine
from miloco_edge.engine.aio import AsyncScene as AsyncScene
from miloco_edge.engine.economy import Closer as Closer
from miloco_edge.engine.economy import Economy as Economy
from miloco_edge.engine.engine import Engine as Engine
from miloco_edge.engine.planner import Intent as Intent
from miloco_edge.engine.scene import Scene as Scene
from miloco_edge.engine.stream import AnswerStream as AnswerStream
from miloco_edge.llama import log_softmax as log_softmax
