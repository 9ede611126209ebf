"""Chat template, thinking control, M-RoPE positions, grounding: pure functions, no I/O."""

from miloco_edge.prompt.chat import ChatFacts as ChatFacts
from miloco_edge.prompt.chat import Text as Text
from miloco_edge.prompt.chat import Turn as Turn
from miloco_edge.prompt.chat import chat_facts as chat_facts
from miloco_edge.prompt.chat import opening as opening
from miloco_edge.prompt.chat import question as question
from miloco_edge.prompt.positions import grid_positions as grid_positions
from miloco_edge.prompt.positions import next_position as next_position
from miloco_edge.prompt.positions import patch_positions as patch_positions
from miloco_edge.prompt.positions import temporal_step as temporal_step
from miloco_edge.prompt.thinking import Piece as Piece
